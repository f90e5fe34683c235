//! Descriptors that somebody else wrote: where their disk is, and which machine they describe.
//!
//! Invariant: what a [`Descriptor`] gives back is the text that was read, but for two start tags.

mod found;
mod mistake;
mod parser;
mod tag;
#[cfg(test)]
mod tests;

pub use self::found::{Found, FoundController};
pub use self::mistake::{Mistake, Problem};
use self::parser::Parser;
use self::tag::Tag;
use super::STREAM_FORMAT;

/// A descriptor of one machine with one disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    text: String,
    file: Tag,
    disk: Tag,
    found: Found,
    hardware_line: u32,
}

/// The disk to put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replacement<'a> {
    /// Its file, relative to the descriptor.
    pub href: &'a str,
    /// Exact bytes of that file, a streamOptimized VMDK.
    pub file_len: u64,
    /// Bytes of the disk inside.
    pub capacity: u64,
}

impl Descriptor {
    /// Reads a descriptor.
    ///
    /// # Errors
    /// [`Mistake`] for what is no OVF 1, or does not have exactly one machine, one file and one disk.
    pub fn parse(text: String) -> Result<Self, Mistake> {
        let parsed = Parser::new(&text).run().map_err(|(at, problem)| Mistake {
            line: line_of(&text, at),
            problem,
        })?;
        Ok(Self {
            hardware_line: line_of(&text, parsed.hardware_start),
            text,
            file: parsed.file,
            disk: parsed.disk,
            found: parsed.found,
        })
    }

    /// The machine.
    #[must_use]
    pub const fn found(&self) -> &Found {
        &self.found
    }

    /// Line where the hardware begins, from 1.
    #[must_use]
    pub const fn hardware_line(&self) -> u32 {
        self.hardware_line
    }

    /// The text as it was read.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text with another disk: of `File` and `Disk` the attributes that say which file it is, how long and how
    /// packed; all else as it was read.
    #[must_use]
    pub fn with_disk(&self, disk: &Replacement<'_>) -> String {
        let file_tag = self.file.with(
            "id",
            &[
                ("href", Some(disk.href.to_owned())),
                ("size", Some(disk.file_len.to_string())),
                ("compression", None),
                ("chunkSize", None),
            ],
        );
        let disk_tag = self.disk.with(
            "diskId",
            &[
                ("capacity", Some(disk.capacity.to_string())),
                ("capacityAllocationUnits", Some("byte".to_owned())),
                ("format", Some(STREAM_FORMAT.to_owned())),
                ("populatedSize", None),
            ],
        );
        let mut edits = [(&self.file.range, file_tag), (&self.disk.range, disk_tag)];
        edits.sort_by_key(|(range, _)| range.start);
        let mut result = String::new();
        let mut done = 0;
        for (range, tag) in edits {
            result.push_str(self.text.get(done..range.start).unwrap_or_default());
            result.push_str(&tag);
            done = range.end;
        }
        result.push_str(self.text.get(done..).unwrap_or_default());
        result
    }
}

/// Line of a byte, from 1.
fn line_of(text: &str, at: usize) -> u32 {
    let before = text.as_bytes().get(..at).unwrap_or(text.as_bytes());
    let lines = before.iter().filter(|byte| **byte == b'\n').count();
    u32::try_from(lines).unwrap_or(u32::MAX).saturating_add(1)
}
