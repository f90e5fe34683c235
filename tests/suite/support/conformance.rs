//! The contract of `ByteSource`, checked from outside. Every implementor runs [`check_byte_source`].
//!
//! What it finds: reads that leave bytes of the buffer untouched, that depend on how a range is cut, that panic or
//! succeed beyond the end, that differ between threads; runs that are empty, overlap, leave gaps or leave the source;
//! runs that lie about zeros or about the host file behind them; explanations that are missing. A source that rejects
//! everything fails, because every read inside must succeed.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "offsets inside a source; those near the end of 64 bits are made with wrapping or saturating operations"
)]
#![expect(
    clippy::unwrap_used,
    reason = "a failing step is to end the test where it happens"
)]

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use miragefs::synth::source::{ByteSource, Origin, ReadError, Run};
use miragefs::units::{to_u64, to_usize};

use super::next_random;

/// Sources up to this length are read as a whole.
const WHOLE_MAX: u64 = 32 << 20;
/// Runs looked at closely, from the front and from the back of a long list.
const RUNS_MAX: usize = 2000;
/// Lengths that straddle sectors, blocks, pages and grains.
const ODD_LENS: [u64; 10] = [1, 2, 3, 511, 512, 513, 4095, 4097, 65_535, 66_049];

/// Checks everything that the trait promises about `source`, whose every byte must be readable.
pub(crate) fn check_byte_source(source: &dyn ByteSource) {
    check_outside(source);
    let runs = check_runs(source);
    let offsets = interesting_offsets(source, &runs);
    if source.len() <= WHOLE_MAX {
        check_against_whole(source, &offsets);
    } else {
        check_windows(source, &offsets);
    }
    check_explanations(source, &offsets);
    check_threads(source, &offsets);
    assert_eq!(source.is_empty(), offsets.is_empty(), "is_empty");
}

/// Reads a range that must be readable, and finds bytes that the source did not write: two poisons, one result.
fn read(source: &dyn ByteSource, offset: u64, len: u64) -> Vec<u8> {
    let mut first = vec![0xa5; to_usize(len)];
    let mut second = vec![0x5a; to_usize(len)];
    for buf in [&mut first, &mut second] {
        source
            .read_exact_at(offset, buf)
            .unwrap_or_else(|error| panic!("read {offset:#x}+{len:#x}: {error}"));
    }
    if let Some(at) = first.iter().zip(&second).position(|(a, b)| a != b) {
        panic!("read {offset:#x}+{len:#x}: byte {at:#x} of the buffer was not written, or changed");
    }
    first
}

/// Ranges that are not inside fail as such; empty ones at or before the end succeed.
fn check_outside(source: &dyn ByteSource) {
    let end = source.len();
    for offset in [0, end / 2, end] {
        source
            .read_exact_at(offset, &mut [])
            .unwrap_or_else(|error| panic!("empty read at {offset:#x}: {error}"));
    }
    let mut outside = vec![
        (u64::MAX, 1),
        (u64::MAX - 1, 4),
        (u64::MAX - 511, 512),
        (end, 1),
    ];
    if end < u64::MAX {
        outside.extend([(end + 1, 0), (u64::MAX, 0), (end + 1, 1)]);
    }
    if end > 0 {
        outside.extend([(end - 1, 2), (end - 1, 65_537)]);
    }
    if end <= WHOLE_MAX {
        outside.push((0, end + 1));
    }
    for (offset, len) in outside {
        let mut buf = vec![0xa5; to_usize(len)];
        let result = catch_unwind(AssertUnwindSafe(|| source.read_exact_at(offset, &mut buf)))
            .unwrap_or_else(|_| panic!("read {offset:#x}+{len:#x} beyond {end:#x} panicked"));
        match result {
            Err(ReadError::OutOfRange { .. }) => {}
            Err(error) => panic!("read {offset:#x}+{len:#x} beyond {end:#x}: {error}"),
            Ok(()) => panic!("read {offset:#x}+{len:#x} beyond {end:#x} succeeded"),
        }
    }
    for offset in [end, end.saturating_add(1), u64::MAX - 1, u64::MAX] {
        if offset >= end {
            assert_eq!(source.run_at(offset).len, 0, "run at {offset:#x} beyond");
            assert_eq!(
                source.known_zero_at(offset).1,
                0,
                "known at {offset:#x} beyond"
            );
            let mut trail = Vec::new();
            source.explain_at(offset, &mut trail);
            assert!(trail.is_empty(), "explanation of {offset:#x} beyond");
        }
    }
    for (offset, len) in [(0, 0), (0, u64::MAX), (u64::MAX, u64::MAX), (end, 1)] {
        // Either answer is right; it only must not panic.
        let _ = source.may_block(offset, len);
    }
}

/// Walks all runs, looks closely at some, and returns those with their offsets.
fn check_runs(source: &dyn ByteSource) -> Vec<(u64, Run)> {
    let mut runs = Vec::new();
    let mut offset = 0;
    let mut known = (false, 0);
    while offset < source.len() {
        let run = source.run_at(offset);
        // What was said before of this place must hold as well.
        if offset < known.1 {
            assert_eq!(known.0, run.origin.is_zero(), "known before {offset:#x}");
        }
        let (is_zero, known_len) = source.known_zero_at(offset);
        assert_eq!(is_zero, run.origin.is_zero(), "known at {offset:#x}");
        assert!(
            (run.len..=source.len() - offset).contains(&known_len),
            "{known_len:#x} bytes known at {offset:#x}, where the run has {:#x}",
            run.len
        );
        known = (is_zero, offset + known_len);
        assert!(run.len > 0, "run at {offset:#x} is empty");
        let end = offset.checked_add(run.len);
        assert!(
            end.is_some_and(|end| end <= source.len()),
            "run at {offset:#x}+{:#x} leaves the source of {:#x}",
            run.len,
            source.len()
        );
        let next = offset + run.len;
        runs.push((offset, run));
        offset = next;
    }
    if runs.len() > 2 * RUNS_MAX {
        runs.drain(RUNS_MAX..runs.len() - RUNS_MAX);
    }
    for (offset, run) in &runs {
        check_run(source, *offset, run);
    }
    runs
}

/// A run asked about from its middle is the rest of it, and its bytes are what its origin says.
fn check_run(source: &dyn ByteSource, offset: u64, run: &Run) {
    for skip in [1, run.len / 2, run.len - 1] {
        if skip == 0 || skip >= run.len {
            continue;
        }
        let inner = source.run_at(offset + skip);
        assert!(
            inner.len > 0 && skip + inner.len <= run.len,
            "run at {offset:#x}+{:#x} overlaps the one at {:#x}+{:#x}",
            run.len,
            offset + skip,
            inner.len
        );
        match (&run.origin, &inner.origin) {
            (
                Origin::HostFile { file, offset: from },
                Origin::HostFile {
                    file: inner_file,
                    offset: inner_from,
                },
            ) => {
                assert_eq!(file, inner_file, "file inside the run at {offset:#x}");
                assert_eq!(from + skip, *inner_from, "inside the run at {offset:#x}");
            }
            (outer, inner) => assert_eq!(outer, inner, "origin inside the run at {offset:#x}"),
        }
    }
    let len = run.len.min(65_536);
    for at in [offset, offset + run.len - len] {
        let bytes = read(source, at, len);
        match &run.origin {
            Origin::Zero => {
                let odd = bytes.iter().position(|byte| *byte != 0);
                assert_eq!(odd, None, "zero run at {offset:#x} reads otherwise");
            }
            Origin::HostFile { file, offset: from } => {
                let host = File::from(
                    file.verified_fd()
                        .unwrap()
                        .as_fd()
                        .try_clone_to_owned()
                        .unwrap(),
                );
                let mut expected = vec![0; bytes.len()];
                host.read_exact_at(&mut expected, from + (at - offset))
                    .unwrap();
                assert!(bytes == expected, "{file:?} differs at {at:#x}");
            }
            Origin::Computed(label) => assert!(!label.is_empty(), "label at {offset:#x}"),
        }
    }
}

/// Where structures begin and end, with neighbours, and some places in between; ascending and inside.
fn interesting_offsets(source: &dyn ByteSource, runs: &[(u64, Run)]) -> Vec<u64> {
    let end = source.len();
    let mut offsets = vec![0, 1, end / 3, end / 2, end.saturating_sub(1)];
    // A few hundred borders are enough, spread over all.
    let step = runs.len().div_ceil(300).max(1);
    for (offset, run) in runs.iter().step_by(step) {
        for border in [*offset, offset + run.len] {
            offsets.extend([border.saturating_sub(1), border, border.saturating_add(1)]);
        }
    }
    let mut state = 1;
    for _ in 0..50 {
        state = next_random(state);
        offsets.push((state >> 1) % end.max(1));
    }
    offsets.retain(|offset| *offset < end);
    offsets.sort_unstable();
    offsets.dedup();
    offsets
}

/// Any cut of the whole reads like the whole.
fn check_against_whole(source: &dyn ByteSource, offsets: &[u64]) {
    let whole = read(source, 0, source.len());
    let check = |offset: u64, len: u64| {
        let mut buf = vec![0xa5; to_usize(len)];
        source.read_exact_at(offset, &mut buf).unwrap();
        let expected = &whole[to_usize(offset)..to_usize(offset + len)];
        if let Some(at) = buf.iter().zip(expected).position(|(a, b)| a != b) {
            panic!("read {offset:#x}+{len:#x}: byte {at:#x} differs from the whole");
        }
    };
    for offset in offsets {
        for len in ODD_LENS {
            check(*offset, len.min(source.len() - offset));
        }
    }
    // The whole in pieces of random lengths, front to back and back to front.
    for seed in 0..4 {
        let mut cuts = vec![0];
        let mut state = next_random(seed);
        while let Some(last) = cuts.last().copied()
            && last < source.len()
        {
            state = next_random(state);
            let max = [512, 5000, 70_000, 300_000][to_usize(state >> 62)];
            cuts.push((last + 1 + (state >> 8) % max).min(source.len()));
        }
        let mut pieces: Vec<(u64, u64)> = cuts
            .windows(2)
            .map(|pair| (pair[0], pair[1] - pair[0]))
            .collect();
        if seed % 2 == 1 {
            pieces.reverse();
        }
        for (offset, len) in pieces {
            check(offset, len);
        }
    }
}

/// As [`check_against_whole`], within windows of a source too long to be read as a whole.
fn check_windows(source: &dyn ByteSource, offsets: &[u64]) {
    const WINDOW: u64 = 3 * 65_536;
    let step = offsets.len().div_ceil(200).max(1);
    for offset in offsets.iter().step_by(step) {
        let start = offset.saturating_sub(WINDOW / 2);
        let len = WINDOW.min(source.len() - start);
        let window = read(source, start, len);
        let mut at = 0;
        let mut state = *offset;
        while at < len {
            state = next_random(state);
            let odd = ODD_LENS[to_usize((state >> 33) % to_u64(ODD_LENS.len()))].min(len - at);
            let part = read(source, start + at, odd);
            assert!(
                part == window[to_usize(at)..to_usize(at + odd)],
                "read {:#x}+{odd:#x} differs from that of {start:#x}+{len:#x}",
                start + at
            );
            at += odd;
        }
    }
}

/// Every byte is explained, behind whatever the trail held.
fn check_explanations(source: &dyn ByteSource, offsets: &[u64]) {
    for offset in offsets {
        let mut trail = Vec::new();
        source.explain_at(*offset, &mut trail);
        assert!(!trail.is_empty(), "no explanation of {offset:#x}");
        assert!(
            trail.iter().all(|step| !step.what.is_empty()),
            "nameless step at {offset:#x}"
        );
        let mut longer = trail.clone();
        source.explain_at(*offset, &mut longer);
        assert_eq!(
            longer,
            [trail.clone(), trail].concat(),
            "explanation of {offset:#x} appends and is repeatable"
        );
    }
}

/// Readers at once see what one sees.
fn check_threads(source: &dyn ByteSource, offsets: &[u64]) {
    let step = offsets.len().div_ceil(40).max(1);
    let probes: Vec<(u64, Vec<u8>)> = offsets
        .iter()
        .step_by(step)
        .map(|offset| {
            let len = 70_000.min(source.len() - offset);
            (*offset, read(source, *offset, len))
        })
        .collect();
    thread::scope(|scope| {
        for turn in 0..4 {
            let probes = &probes;
            scope.spawn(move || {
                let (front, back) = probes.split_at(probes.len() * turn / 4);
                for (offset, expected) in back.iter().chain(front) {
                    let bytes = read(source, *offset, to_u64(expected.len()));
                    assert!(bytes == *expected, "threads disagree at {offset:#x}");
                }
            });
        }
    });
}
