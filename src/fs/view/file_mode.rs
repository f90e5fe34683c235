//! Who may read the files.

/// The permission bits of the images: `r` for the owner, perhaps the group, perhaps others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileMode(u16);

impl Default for FileMode {
    fn default() -> Self {
        Self(Self::ALL)
    }
}

impl FileMode {
    /// Everybody reads.
    const ALL: u16 = 0o444;

    /// `bits` as `st_mode` has them; `None` if any but `r` is among them, or the owner's `r` is not.
    #[must_use]
    pub const fn new(bits: u16) -> Option<Self> {
        if bits & !Self::ALL == 0 && bits & 0o400 != 0 {
            Some(Self(bits))
        } else {
            None
        }
    }

    /// The bits.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Of a directory: whoever reads files may list and search it.
    #[must_use]
    pub const fn of_directory(self) -> u16 {
        self.0 | (self.0 >> 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reading_can_be_allowed() {
        for (bits, directory) in [
            (0o444, Some(0o555)),
            (0o440, Some(0o550)),
            (0o400, Some(0o500)),
            (0o404, Some(0o505)),
            (0o644, None),
            (0o044, None),
            (0o1444, None),
            (0, None),
        ] {
            assert_eq!(FileMode::new(bits).map(FileMode::of_directory), directory);
        }
    }
}
