//! A grain of a streamOptimized VMDK that is really compressed: a zlib stream (RFC 1950) of at most 64 KiB.
//!
//! Invariant: equal grains and levels give equal bytes on every machine. A grain that deflate does not make smaller is
//! written with stored blocks, so that no stream is longer than 65552 bytes; readers have room for 66036.

use libdeflater::{CompressionLvl, Compressor};
use zerocopy::IntoBytes;

use super::GRAIN_LEN;
use super::grain::{BODY_LEN, SECOND_BLOCK, prefix};
use crate::units::to_usize;

/// What compresses: name and version. Other versions may write other bytes, so indexes are kept apart by it.
pub const LIBRARY: &str = "libdeflater 1.26.1";

/// Bytes of a compressed grain at most; above, it is stored.
const COMPRESSED_LEN_MAX: usize = 65_536;
/// Bytes of the marker in front of the stream: `lba` and `cmpSize`.
pub const MARKER_LEN: u64 = 12;

/// Compresses grains, one after the other.
pub struct GrainCompressor {
    level: u8,
    compressor: Compressor,
    stream: Vec<u8>,
}

impl GrainCompressor {
    /// For grains at `level`, 1 (fast) to 12 (small).
    ///
    /// # Panics
    /// On any other level.
    #[must_use]
    pub fn new(level: u8) -> Self {
        let typed = CompressionLvl::new(i32::from(level)).expect("levels are 1 to 12");
        Self {
            level,
            compressor: Compressor::new(typed),
            stream: Vec::new(),
        }
    }

    /// The level.
    #[must_use]
    pub const fn level(&self) -> u8 {
        self.level
    }

    /// The zlib stream of `grain`, 64 KiB.
    ///
    /// # Panics
    /// If `grain` is not one grain long.
    pub fn compress(&mut self, grain: &[u8]) -> &[u8] {
        assert!(grain.len() == to_usize(GRAIN_LEN), "grains are 64 KiB long");
        let bound = self.compressor.zlib_compress_bound(grain.len());
        self.stream.resize(bound, 0);
        let len = self
            .compressor
            .zlib_compress(grain, &mut self.stream)
            .expect("the buffer has the length that the library asks for");
        if len > COMPRESSED_LEN_MAX {
            store(grain, &mut self.stream);
            return &self.stream;
        }
        self.stream.get(..len).unwrap_or(&self.stream)
    }
}

/// Writes the stream of `grain` in two stored blocks to `stream`.
fn store(grain: &[u8], stream: &mut Vec<u8>) {
    let (body, last) = grain.split_at(to_usize(BODY_LEN));
    let head = prefix(0);
    stream.clear();
    stream.extend_from_slice(&head.zlib_header);
    stream.extend_from_slice(head.first_block.as_bytes());
    stream.extend_from_slice(body);
    stream.extend_from_slice(&SECOND_BLOCK);
    stream.extend_from_slice(last);
    stream.extend_from_slice(&libdeflater::adler32(grain).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use libdeflater::Decompressor;

    /// Text, numbers and noise, as far as a grain goes.
    fn grain() -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut state: u32 = 1;
        for number in 0_u32.. {
            if bytes.len() >= 65_536 {
                break;
            }
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            bytes.extend_from_slice(format!("line {number}: ").as_bytes());
            bytes.extend_from_slice(&state.to_be_bytes());
        }
        bytes.truncate(65_536);
        bytes
    }

    /// Bytes without any pattern.
    fn noise() -> Vec<u8> {
        let mut state: u64 = 7;
        (0..65_536)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                state.to_be_bytes()[0]
            })
            .collect()
    }

    /// Captured from version 1.26.1 of the library. If another one writes other bytes, LIBRARY must change with it, or
    /// else indexes of the old one would be believed.
    #[test]
    fn encodes_reference_bytes() {
        let mut found = Vec::new();
        for level in [1, 6, 12] {
            let mut compressor = GrainCompressor::new(level);
            let stream = compressor.compress(&grain());
            found.push((level, stream.len(), crc32fast::hash(stream)));
        }
        let expected = [
            (1, 33_939, 1_473_613_331),
            (6, 29_963, 3_253_934_227),
            (12, 29_388, 1_346_498_009),
        ];
        assert_eq!(found, expected);
        let mut zeros = GrainCompressor::new(6);
        assert_eq!(zeros.compress(&[0; 65_536]).len(), 84);
    }

    #[test]
    fn round_trips() {
        let mut stored = GrainCompressor::new(1);
        // In turn, so that a stored grain leaves nothing behind.
        for (grain, kept) in [(grain(), false), (noise(), true), (grain(), false)] {
            let stream = stored.compress(&grain);
            assert_eq!(stream.len() == 65_552, kept);
            let mut back = vec![0xa5; 65_536];
            let len = Decompressor::new()
                .zlib_decompress(stream, &mut back)
                .unwrap();
            assert_eq!(len, 65_536);
            assert_eq!(back, grain);
        }
    }

    /// The stored form is the one that a stored-grain VMDK has.
    #[test]
    fn noise_is_stored() {
        let noise = noise();
        let mut compressor = GrainCompressor::new(12);
        let stream = compressor.compress(&noise);
        assert_eq!(stream[..7], [0x78, 0x01, 0, 0xff, 0xff, 0, 0]);
        assert_eq!(stream[7..65_542], noise[..65_535]);
        assert_eq!(stream[65_542..65_547], [1, 1, 0, 0xfe, 0xff]);
        assert_eq!(stream[65_547], noise[65_535]);
    }

    #[test]
    fn the_version_is_the_one_that_is_linked() {
        let (name, version) = LIBRARY.split_once(' ').unwrap();
        let lock = include_str!("../../../Cargo.lock");
        assert!(lock.contains(&format!("name = \"{name}\"\nversion = \"{version}\"\n")));
        let linked = lock
            .split_once("name = \"libdeflate-sys\"\nversion = \"")
            .unwrap()
            .1;
        assert!(
            linked.starts_with(&format!("{version}\"")),
            "the C library moved alone"
        );
    }
}
