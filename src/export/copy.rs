//! The bytes of an image, in order, to a file with holes or to a stream.
//!
//! Invariant: whatever holds data is written exactly once; a hole is zeros on a stream and left alone in a file.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Progress;
use super::error::ExportError;
use crate::synth::data_map::DataMap;
use crate::synth::generation::Image;
use crate::units::{MIB, to_u64, to_usize};

/// Bytes read at once.
const CHUNK_LEN: u64 = MIB;

/// Where the bytes go.
pub(super) enum Sink<'a> {
    /// A file of the image's length that reads as zeros.
    Sparse(&'a File),
    /// Something that is written from its first byte to its last.
    Sequential(&'a mut dyn Write),
}

impl Sink<'_> {
    /// Writes the chunk at `offset`.
    fn write(&mut self, data: &DataMap, offset: u64, chunk: &[u8]) -> io::Result<()> {
        match self {
            Self::Sequential(out) => out.write_all(chunk),
            Self::Sparse(file) => {
                let end = offset.saturating_add(to_u64(chunk.len()));
                for (start, end) in data_between(data, offset, end) {
                    let from = to_usize(start.saturating_sub(offset));
                    let to = to_usize(end.saturating_sub(offset));
                    let part = chunk
                        .get(from..to)
                        .expect("data between two offsets lies in the chunk between them");
                    file.write_all_at(part, start)?;
                }
                Ok(())
            }
        }
    }

    /// What counts as done once the bytes from `start` to `end` are written.
    fn weight(&self, data: &DataMap, start: u64, end: u64) -> u64 {
        match self {
            Self::Sequential(_) => end.saturating_sub(start),
            Self::Sparse(_) => data_between(data, start, end)
                .map(|(start, end)| end.saturating_sub(start))
                .sum(),
        }
    }
}

/// Writes `image` to `sink`, which is called `name` in messages. Chunks with data are read whole, holes and all, since
/// an image that computes checksums of what is read wants its bytes without gaps; chunks without data are not read.
pub(super) fn copy(
    image: &Image,
    sink: &mut Sink<'_>,
    name: &Path,
    cancel: &AtomicBool,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), ExportError> {
    let len = image.source.len();
    let total = sink.weight(&image.data, 0, len);
    let mut done: u64 = 0;
    let mut buf = vec![0; to_usize(CHUNK_LEN.min(len))];
    let zeros = vec![0; buf.len()];
    let mut offset = 0;
    progress(Progress { done, total });
    while offset < len {
        if cancel.load(Ordering::Relaxed) {
            return Err(ExportError::Cancelled);
        }
        let end = len.min(offset.saturating_add(CHUNK_LEN));
        let next_data = image.data.next_data(offset).unwrap_or(len);
        if next_data >= end && matches!(sink, Sink::Sparse(_)) {
            offset = next_data;
            continue;
        }
        let chunk_len = to_usize(end.saturating_sub(offset));
        let chunk = if next_data >= end {
            zeros.get(..chunk_len)
        } else {
            let chunk = buf
                .get_mut(..chunk_len)
                .expect("a chunk fits the buffer that was made for it");
            image.source.read_exact_at(offset, chunk)?;
            Some(&*chunk)
        };
        let chunk = chunk.expect("a chunk fits the zeros that were made for it");
        sink.write(&image.data, offset, chunk)
            .map_err(|source| ExportError::write(name, source))?;
        done = done.saturating_add(sink.weight(&image.data, offset, end));
        progress(Progress { done, total });
        offset = end;
    }
    Ok(())
}

/// The data ranges between two offsets, cut off there.
fn data_between(data: &DataMap, start: u64, end: u64) -> impl Iterator<Item = (u64, u64)> {
    let ranges = data.ranges();
    let first = ranges.partition_point(|(_, range_end)| *range_end <= start);
    ranges
        .iter()
        .skip(first)
        .take_while(move |(range_start, _)| *range_start < end)
        .map(move |(range_start, range_end)| ((*range_start).max(start), (*range_end).min(end)))
}
