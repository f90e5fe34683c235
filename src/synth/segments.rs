//! An image as a list of labelled pieces that follow each other without a gap.
//!
//! Invariant: segments are sorted, none is empty, and each starts where the one before it ends.

use std::sync::Arc;

use super::source::{ByteSource, Origin, ReadError, Run, Step, check_range};
use crate::units::{to_u64, to_usize};

/// What a segment holds.
#[derive(Clone)]
pub enum Segment {
    /// Zeros.
    Zero,
    /// Bytes that the plan computed; they count as data even where they are zero.
    Bytes {
        /// The bytes, as many as the segment is long.
        bytes: Arc<[u8]>,
        /// The structure in the field's words.
        structure: &'static str,
    },
    /// Another source from its first byte to its last.
    Source(Arc<dyn ByteSource>),
}

#[derive(Clone)]
struct LabelledSegment {
    start: u64,
    /// Not zero.
    len: u64,
    what: String,
    segment: Segment,
}

/// An append-only list of segments, readable as one source.
#[derive(Clone, Default)]
pub struct SegmentMap {
    segments: Vec<LabelledSegment>,
    len: u64,
}

impl SegmentMap {
    /// No segments, no bytes.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            segments: Vec::new(),
            len: 0,
        }
    }

    /// Appends `len` bytes, called `what` in explanations. A segment of no bytes leaves no trace.
    ///
    /// # Panics
    /// If `len` is not the length of what `segment` holds, or if the whole would exceed `u64::MAX` bytes: plans are
    /// checked before they become segments.
    pub fn push(&mut self, len: u64, what: impl Into<String>, segment: Segment) {
        let held = match &segment {
            Segment::Zero => len,
            Segment::Bytes { bytes, .. } => to_u64(bytes.len()),
            Segment::Source(source) => source.len(),
        };
        assert!(held == len, "a segment is as long as what it holds");
        if len == 0 {
            return;
        }
        let start = self.len;
        self.len = start
            .checked_add(len)
            .expect("the length of a planned image fits 64 bits");
        self.segments.push(LabelledSegment {
            start,
            len,
            what: what.into(),
            segment,
        });
    }

    /// Appends `bytes`, which hold the structure of that name.
    pub fn push_bytes(
        &mut self,
        what: impl Into<String>,
        structure: &'static str,
        bytes: Arc<[u8]>,
    ) {
        let len = to_u64(bytes.len());
        self.push(len, what, Segment::Bytes { bytes, structure });
    }

    /// Appends zeros up to `offset`, which is not before the end.
    ///
    /// # Panics
    /// If `offset` is before the end.
    pub fn push_zeros_to(&mut self, offset: u64, what: impl Into<String>) {
        let len = offset
            .checked_sub(self.len)
            .expect("padding ends at or after the end");
        self.push(len, what, Segment::Zero);
    }

    /// The segment that holds `offset`, and the offset inside it.
    fn find(&self, offset: u64) -> Option<(&LabelledSegment, u64)> {
        let after = self
            .segments
            .partition_point(|segment| segment.start <= offset);
        let found = self.segments.get(after.checked_sub(1)?)?;
        let inner = offset.checked_sub(found.start)?;
        (inner < found.len).then_some((found, inner))
    }

    /// The segments that overlap `offset..offset + len`, with the part of each: offset inside it and length.
    fn parts(&self, offset: u64, len: u64) -> impl Iterator<Item = (&LabelledSegment, u64, u64)> {
        let end = offset.saturating_add(len);
        let first = self
            .segments
            .partition_point(|segment| segment.start.saturating_add(segment.len) <= offset);
        self.segments
            .iter()
            .skip(first)
            .take_while(move |segment| segment.start < end)
            .map(move |segment| {
                let part_start = segment.start.max(offset);
                let part_end = segment.start.saturating_add(segment.len).min(end);
                (
                    segment,
                    part_start.saturating_sub(segment.start),
                    part_end.saturating_sub(part_start),
                )
            })
    }
}

impl LabelledSegment {
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        match &self.segment {
            Segment::Zero => buf.fill(0),
            Segment::Bytes { bytes, .. } => {
                let start = to_usize(offset);
                let part = start
                    .checked_add(buf.len())
                    .and_then(|end| bytes.get(start..end))
                    .expect("a part of a segment is inside its bytes");
                buf.copy_from_slice(part);
            }
            Segment::Source(source) => source.read_exact_at(offset, buf)?,
        }
        Ok(())
    }
}

impl ByteSource for SegmentMap {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        check_range(offset, buf.len(), self.len)?;
        let mut rest = buf;
        for (segment, part_offset, part_len) in self.parts(offset, to_u64(rest.len())) {
            let (part, after) = rest
                .split_at_mut_checked(to_usize(part_len))
                .expect("the parts of a range add up to its length");
            segment.read_exact_at(part_offset, part)?;
            rest = after;
        }
        Ok(())
    }

    fn run_at(&self, offset: u64) -> Run {
        let Some((found, inner)) = self.find(offset) else {
            return Run::EMPTY;
        };
        let len = found.len.saturating_sub(inner);
        let origin = match &found.segment {
            Segment::Zero => Origin::Zero,
            Segment::Bytes { structure, .. } => Origin::Computed(structure),
            Segment::Source(source) => return source.run_at(inner),
        };
        Run { len, origin }
    }

    fn known_zero_at(&self, offset: u64) -> (bool, u64) {
        let Some((found, inner)) = self.find(offset) else {
            return (true, 0);
        };
        match &found.segment {
            Segment::Zero => (true, found.len.saturating_sub(inner)),
            Segment::Bytes { .. } => (false, found.len.saturating_sub(inner)),
            Segment::Source(source) => source.known_zero_at(inner),
        }
    }

    fn explain_at(&self, offset: u64, trail: &mut Vec<Step>) {
        let Some((found, inner)) = self.find(offset) else {
            return;
        };
        trail.push(Step {
            what: found.what.clone(),
            offset: inner,
        });
        if let Segment::Source(source) = &found.segment {
            source.explain_at(inner, trail);
        }
    }

    fn may_block(&self, offset: u64, len: u64) -> bool {
        self.parts(offset, len)
            .any(|(segment, part_offset, part_len)| match &segment.segment {
                Segment::Source(source) => source.may_block(part_offset, part_len),
                Segment::Zero | Segment::Bytes { .. } => false,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synth::data_map::DataMap;

    fn bytes(text: &str) -> Segment {
        Segment::Bytes {
            bytes: text.as_bytes().into(),
            structure: "text",
        }
    }

    /// A source that may block beyond its first byte.
    struct Slow;

    impl ByteSource for Slow {
        fn len(&self) -> u64 {
            4
        }

        fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
            check_range(offset, buf.len(), 4)?;
            buf.fill(b's');
            Ok(())
        }

        fn run_at(&self, offset: u64) -> Run {
            Run {
                len: 4_u64.saturating_sub(offset),
                origin: Origin::Computed("slow"),
            }
        }

        fn explain_at(&self, offset: u64, trail: &mut Vec<Step>) {
            trail.push(Step {
                what: "slow".to_owned(),
                offset,
            });
        }

        fn may_block(&self, offset: u64, len: u64) -> bool {
            offset.saturating_add(len) > 1
        }
    }

    fn example() -> SegmentMap {
        let mut inner = SegmentMap::new();
        inner.push(2, "head", bytes("hd"));
        inner.push(3, "hole", Segment::Zero);
        let mut map = SegmentMap::new();
        map.push(3, "first", bytes("abc"));
        map.push(0, "nothing", Segment::Zero);
        map.push_zeros_to(5, "gap");
        map.push(5, "partition", Segment::Source(Arc::new(inner)));
        map.push(4, "last", Segment::Source(Arc::new(Slow)));
        map
    }

    const WHOLE: &[u8; 14] = b"abc\0\0hd\0\0\0ssss";

    #[test]
    fn any_split_equals_the_whole() {
        let map = example();
        assert_eq!(map.len(), 14);
        for start in 0..=14_u8 {
            for end in start..=14 {
                let range = usize::from(start)..usize::from(end);
                let mut buf = vec![0xa5; range.len()];
                map.read_exact_at(u64::from(start), &mut buf).unwrap();
                assert_eq!(buf, WHOLE[range], "{start}..{end}");
            }
        }
    }

    #[test]
    fn ranges_outside_are_errors() {
        let map = example();
        for (offset, len) in [
            (0, 15),
            (14, 1),
            (15, 0),
            (u64::MAX, 0),
            (u64::MAX, 1),
            (u64::MAX - 1, 8),
        ] {
            let error = map.read_exact_at(offset, &mut vec![0; len]).unwrap_err();
            assert!(
                matches!(error, ReadError::OutOfRange { end: 14, .. }),
                "{offset:#x}+{len}: {error}"
            );
            assert!(!map.may_block(offset.max(14), to_u64(len)));
        }
        assert_eq!(map.run_at(14), Run::EMPTY);
        assert_eq!(map.run_at(u64::MAX), Run::EMPTY);
        let mut trail = Vec::new();
        map.explain_at(u64::MAX, &mut trail);
        assert_eq!(trail, []);
    }

    #[test]
    fn runs_have_no_gaps_and_zeros_are_zero() {
        let map = example();
        let mut runs = Vec::new();
        let mut offset = 0;
        while offset < map.len() {
            let run = map.run_at(offset);
            runs.push((offset, run.len, run.origin.is_zero()));
            offset = offset.checked_add(run.len).unwrap();
        }
        let expected = [
            (0, 3, false),
            (3, 2, true),
            (5, 2, false),
            (7, 3, true),
            (10, 4, false),
        ];
        assert_eq!(runs, expected);
        assert_eq!(map.run_at(1).len, 2);
        assert_eq!(DataMap::of(&map).ranges(), [(0, 3), (5, 7), (10, 14)]);
    }

    #[test]
    fn explanations_go_inwards() {
        let mut trail = Vec::new();
        example().explain_at(8, &mut trail);
        let steps: Vec<_> = trail
            .iter()
            .map(|step| (step.what.as_str(), step.offset))
            .collect();
        assert_eq!(steps, [("partition", 3), ("hole", 1)]);
    }

    #[test]
    fn blocking_is_that_of_the_parts_asked_for() {
        let map = example();
        assert!(!map.may_block(0, 10));
        assert!(!map.may_block(0, 11));
        assert!(map.may_block(0, 12));
        assert!(map.may_block(13, 1));
        assert!(map.may_block(0, u64::MAX));
    }

    #[test]
    fn the_last_byte_of_64_bits_is_readable() {
        let mut map = SegmentMap::new();
        map.push(u64::MAX - 1, "gap", Segment::Zero);
        map.push(1, "end", bytes("e"));
        let mut buf = [0; 3];
        map.read_exact_at(u64::MAX - 3, &mut buf).unwrap();
        assert_eq!(buf, [0, 0, b'e']);
        assert!(map.read_exact_at(u64::MAX - 2, &mut buf).is_err());
        assert_eq!(map.run_at(0).len, u64::MAX - 1);
    }

    #[test]
    fn an_empty_map_has_no_bytes() {
        let map = SegmentMap::new();
        assert!(map.is_empty());
        map.read_exact_at(0, &mut []).unwrap();
        assert!(map.read_exact_at(0, &mut [0]).is_err());
        assert_eq!(map.run_at(0), Run::EMPTY);
    }

    #[test]
    #[should_panic(expected = "a segment is as long as what it holds")]
    fn lengths_must_agree() {
        SegmentMap::new().push(4, "short", bytes("abc"));
    }
}
