//! Any text as a config: a mistake with a place in the text, or a spec that is the same when it is written and read again.

use std::path::Path;

use miragefs::config::{Environment, load_text, resolved};

/// Where it is said to lie: a directory that does not exist, so that nothing of the host is read by relative paths.
const PATH: &str = "/nonexistent/miragefs/lab.toml";

pub(crate) fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let load = |text: &str| load_text(text.to_owned(), Path::new(PATH), &Environment::default());
    match load(text) {
        Ok(loaded) => {
            let written = resolved(&loaded.spec);
            let again = load(&written).unwrap_or_else(|error| panic!("{error}\n{written}"));
            assert_eq!(resolved(&again.spec), written);
        }
        Err(error) => {
            let message = error.to_string();
            assert!(!message.is_empty());
            assert!(
                message.len() < 4096 + 8 * text.len(),
                "{} bytes",
                message.len()
            );
        }
    }
}
