//! Bytes of an image as a reader asks for them.

use crate::synth::generation::Image;
use crate::synth::source::ReadError;
use crate::units::to_usize;

/// What `lseek` looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seek {
    /// The next byte of data.
    Data,
    /// The next byte of a hole, the end of the file included.
    Hole,
}

/// How many of `wanted` bytes from `offset` on lie before the end of `image`.
#[must_use]
pub fn readable_len(image: &Image, offset: u64, wanted: u32) -> usize {
    to_usize(
        image
            .source
            .len()
            .saturating_sub(offset)
            .min(u64::from(wanted)),
    )
}

/// Fills the start of `buf` from `offset` of `image` and returns how many bytes there were: fewer than `buf` holds
/// only at the end of the image.
///
/// # Errors
/// As [`ByteSource::read_exact_at`](crate::synth::source::ByteSource::read_exact_at), except that no range is out of
/// range.
pub fn read(image: &Image, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
    let wanted = u32::try_from(buf.len()).unwrap_or(u32::MAX);
    let count = readable_len(image, offset, wanted);
    let (filled, _) = buf.split_at_mut(count);
    if !filled.is_empty() {
        image.source.read_exact_at(offset, filled)?;
    }
    Ok(count)
}

/// Where the next data or hole at or after `offset` starts; `None` (`ENXIO`) if there is none or `offset` is not
/// inside the image.
#[must_use]
pub fn seek(image: &Image, offset: i64, seek: Seek) -> Option<u64> {
    let offset = u64::try_from(offset).ok()?;
    match seek {
        Seek::Data => image.data.next_data(offset),
        Seek::Hole => image.data.next_hole(offset),
    }
}
