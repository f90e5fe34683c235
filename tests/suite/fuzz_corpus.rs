//! The inputs of `tests/fuzz/corpus`, by the same checks as the fuzzers: what was found once is not found again.

use std::fs;
use std::path::Path;

use miragefs::units::{to_u64, to_usize};

use crate::support::next_random;

#[path = "../fuzz/targets/config.rs"]
mod config;
#[path = "../fuzz/targets/mtree.rs"]
mod mtree;
#[path = "../fuzz/targets/ovf.rs"]
mod ovf;
#[path = "../fuzz/targets/view.rs"]
mod view;
#[path = "../fuzz/targets/vmx.rs"]
mod vmx;

/// Checks every input of one target, and some that differ from it in a few bytes.
#[expect(clippy::print_stdout, reason = "shown when the test fails")]
fn replay(target: &str, check: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz/corpus")
        .join(target);
    let mut count = 0;
    for entry in fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        let input = fs::read(&path).unwrap();
        // The path is told when the check fails.
        println!("{}", path.display());
        check(&input);
        let mut state = 11;
        for _ in 0..20 {
            let mut changed = input.clone();
            for _ in 0..3 {
                state = next_random(state);
                let [value, ..] = (state >> 40).to_le_bytes();
                if let Some(at) = state.checked_rem(to_u64(changed.len())) {
                    changed[to_usize(at)] = value;
                }
            }
            check(&changed);
        }
        count += 1;
    }
    assert!(count >= 5, "{target}: {count} inputs");
}

#[test]
fn configs() {
    replay("config", config::check);
}

#[test]
fn descriptors() {
    replay("ovf", ovf::check);
}

#[test]
fn vmx_files() {
    replay("vmx", vmx::check);
}

#[test]
fn manifests() {
    replay("mtree", mtree::check);
}

#[test]
fn requests() {
    replay("view", view::check);
}
