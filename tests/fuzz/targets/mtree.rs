//! Any bytes as an ownership manifest: mistakes in lines of it, or paths that are sorted and found.

use miragefs::formats::mtree::Manifest;

pub(crate) fn check(input: &[u8]) {
    match Manifest::parse(input) {
        Ok(manifest) => {
            let entries = manifest.entries();
            for (index, entry) in entries.iter().enumerate() {
                assert_eq!(manifest.find(manifest.path(entry)), Some(index));
                assert!(entry.mode().is_none_or(|mode| mode <= 0o7777));
            }
            for pair in entries.windows(2) {
                assert!(manifest.path(&pair[0]) < manifest.path(&pair[1]));
            }
        }
        Err(mistakes) => {
            assert!((1..=100).contains(&mistakes.len()));
            let lines = 1 + input.iter().filter(|byte| **byte == b'\n').count();
            for mistake in &mistakes {
                assert!((1..=lines).contains(&usize::try_from(mistake.line).unwrap()));
            }
            assert!(mistakes.is_sorted_by_key(|mistake| mistake.line));
        }
    }
}
