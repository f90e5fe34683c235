//! Any text as an OVF descriptor: a mistake in one of its lines, or a machine that stays the same when it gets another disk.

use miragefs::formats::ovf::{Descriptor, Replacement};

pub(crate) fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let descriptor = match Descriptor::parse(text.to_owned()) {
        Ok(descriptor) => descriptor,
        Err(mistake) => {
            let lines = text.split('\n').count();
            let line = usize::try_from(mistake.line).unwrap();
            assert!((1..=lines).contains(&line), "line {line} of {lines}");
            return;
        }
    };
    assert_eq!(descriptor.text(), text);
    let disk = Replacement {
        href: "other-disk1.vmdk",
        file_len: 123_456,
        capacity: 1 << 30,
    };
    let changed = descriptor.with_disk(&disk);
    assert!(changed.len() < text.len() + 1024);
    let again = Descriptor::parse(changed.clone());
    let again = again.unwrap_or_else(|mistake| panic!("{mistake:?}\n{changed}"));
    assert_eq!(again.found(), descriptor.found());
    assert_eq!(again.with_disk(&disk), changed);
}
