//! Any text as a VMX file: its lines, whole, and their keys.

use miragefs::formats::vmx::entries;

pub(crate) fn check(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let joined: String = entries(&text).map(|entry| entry.text).collect();
    assert_eq!(joined, text);
    for entry in entries(&text) {
        let Some((key, value)) = entry.pair else {
            continue;
        };
        assert!(!key.is_empty() && entry.text.contains(key));
        // A byte that is no text becomes three.
        assert!(value.len() <= 3 * entry.text.len());
    }
}
