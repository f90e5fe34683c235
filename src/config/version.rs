//! Which of two versions of a file is the newer one.
//!
//! The order is that of Debian's version numbers (deb-version(7)), which `sort -V` has too, with one difference, as
//! `linux-version` of Debian's linux-base makes it: a release candidate comes before its release.

use std::cmp::Ordering;

/// A version as it stands in a file's name, such as `6.1.0-42-amd64`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version(String);

impl Version {
    pub(super) fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_runs = compare(
            &self.0.replace("-rc", "~rc"),
            &other.0.replace("-rc", "~rc"),
        );
        // Such as 6.1 and 6.01, which are not the same file.
        by_runs.then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Runs of other characters and runs of digits in turn, until two differ.
fn compare(mut one: &str, mut other: &str) -> Ordering {
    while !(one.is_empty() && other.is_empty()) {
        let (one_word, one_rest) = split(one, |byte| !byte.is_ascii_digit());
        let (other_word, other_rest) = split(other, |byte| !byte.is_ascii_digit());
        let (one_number, one_rest) = split(one_rest, |byte| byte.is_ascii_digit());
        let (other_number, other_rest) = split(other_rest, |byte| byte.is_ascii_digit());
        let order = compare_words(one_word, other_word)
            .then_with(|| compare_numbers(one_number, other_number));
        if order.is_ne() {
            return order;
        }
        (one, other) = (one_rest, other_rest);
    }
    Ordering::Equal
}

/// The bytes that fit at the beginning, and the rest.
fn split(text: &str, fits: fn(u8) -> bool) -> (&str, &str) {
    let end = text.bytes().position(|byte| !fits(byte));
    // Digits are characters of their own in UTF-8.
    text.split_at(end.unwrap_or(text.len()))
}

/// `~` before the end, that before letters, these before all else.
fn compare_words(one: &str, other: &str) -> Ordering {
    let weight = |byte: Option<u8>| match byte {
        Some(b'~') => (0, 0),
        None => (1, 0),
        Some(byte) if byte.is_ascii_alphabetic() => (2, byte),
        Some(byte) => (3, byte),
    };
    (0..=one.len().max(other.len()))
        .map(|at| {
            let byte = |word: &str| word.as_bytes().get(at).copied();
            weight(byte(one)).cmp(&weight(byte(other)))
        })
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

/// Of any length: a date or a hash may stand in a name.
fn compare_numbers(one: &str, other: &str) -> Ordering {
    let (one, other) = (one.trim_start_matches('0'), other.trim_start_matches('0'));
    one.len().cmp(&other.len()).then_with(|| one.cmp(other))
}

#[cfg(test)]
mod tests {
    use super::Version;

    #[test]
    fn versions_of_kernels_are_in_order() {
        let versions = [
            "5.10.0-9-amd64",
            "5.10.0-10-amd64",
            "6.1.0-9-amd64",
            "6.1.0-10-amd64",
            "6.1.0-10-rt-amd64",
            "6.1.1",
            "6.12.0-rc2",
            "6.12.0-rc10",
            "6.12.0",
            "6.12.0+deb13-amd64",
            "6.12.0-1-amd64",
            "6.12~rc1",
            "6.12",
            "20261126",
            "18446744073709551616000",
            "18446744073709551616001",
        ];
        // Each block by itself: 6.12 and 6.12.0 are different numbers.
        for block in [&versions[..11], &versions[11..]] {
            for pair in block.windows(2) {
                assert!(Version::new(pair[0]) < Version::new(pair[1]), "{pair:?}");
                assert!(Version::new(pair[1]) > Version::new(pair[0]), "{pair:?}");
            }
        }
        assert!(Version::new("6.01") < Version::new("6.1"));
        assert_eq!(Version::new("é1"), Version::new("é1"));
        assert!(Version::new("é1") < Version::new("é2"));
    }
}
