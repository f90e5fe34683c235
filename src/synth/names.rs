//! Byte strings behind one another in memory: the names and symlink targets of a tree, which are by far the most of
//! what a plan remembers.

use crate::units::to_usize;

/// The length that stands for "two more bytes of length follow".
const LONG: u8 = u8::MAX;

/// A byte string within its [`Names`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name(u32);

/// Byte strings of at most 65,535 bytes each and 4 GiB in all, each with its length in front.
#[derive(Debug, Clone, Default)]
pub struct Names {
    bytes: Vec<u8>,
}

impl Names {
    /// Adds a string; `None` if it, or all together, are too long.
    pub fn push(&mut self, string: &[u8]) -> Option<Name> {
        let name = Name(u32::try_from(self.bytes.len()).ok()?);
        let len = u16::try_from(string.len()).ok()?;
        match u8::try_from(len) {
            Ok(short) if short < LONG => self.bytes.push(short),
            _ => {
                self.bytes.push(LONG);
                self.bytes.extend_from_slice(&len.to_le_bytes());
            }
        }
        self.bytes.extend_from_slice(string);
        Some(name)
    }

    /// The string that was added as `name`.
    ///
    /// # Panics
    /// If `name` is of other names.
    #[must_use]
    pub fn get(&self, name: Name) -> &[u8] {
        let stored = self
            .bytes
            .get(to_usize(name.0.into())..)
            .unwrap_or_default();
        let string = match stored {
            [LONG, low, high, rest @ ..] => rest.get(..u16::from_le_bytes([*low, *high]).into()),
            [len, rest @ ..] => rest.get(..usize::from(*len)),
            [] => None,
        };
        string.expect("a name is used with the names that it was added to")
    }

    /// Gives back memory that further strings would have used.
    pub fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_of_all_lengths_come_back() {
        let mut names = Names::default();
        let strings: Vec<Vec<u8>> = [0, 1, 254, 255, 256, 4095, 65_535]
            .into_iter()
            .map(|len| vec![b'x'; len])
            .collect();
        let added: Vec<Name> = strings
            .iter()
            .map(|string| names.push(string).unwrap())
            .collect();
        for (name, string) in added.into_iter().zip(&strings) {
            assert_eq!(names.get(name), string);
        }
        assert_eq!(names.push(&vec![0; 65_536]), None);
    }
}
