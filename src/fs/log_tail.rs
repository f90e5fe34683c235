//! The last lines of the log, for who looks into the mount.

use std::collections::VecDeque;

use parking_lot::Mutex;

/// Lines kept.
const LINES_MAX: usize = 1000;
/// Bytes kept of all of them.
const BYTES_MAX: usize = 256 << 10;

/// A log that forgets its oldest lines.
#[derive(Debug, Default)]
pub struct LogTail {
    lines: Mutex<Lines>,
}

#[derive(Debug, Default)]
struct Lines {
    lines: VecDeque<String>,
    bytes: usize,
}

impl LogTail {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a line, with its newline.
    pub fn push(&self, line: String) {
        let mut kept = self.lines.lock();
        kept.bytes = kept.bytes.saturating_add(line.len());
        kept.lines.push_back(line);
        while kept.lines.len() > LINES_MAX || kept.bytes > BYTES_MAX {
            let Some(oldest) = kept.lines.pop_front() else {
                break;
            };
            kept.bytes = kept.bytes.saturating_sub(oldest.len());
        }
    }

    /// All lines, the oldest first.
    #[must_use]
    pub fn text(&self) -> String {
        self.lines.lock().lines.iter().map(String::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_lines_go_first() {
        let tail = LogTail::new();
        for number in 0..1500 {
            tail.push(format!("{number}\n"));
        }
        let text = tail.text();
        assert!(text.starts_with("500\n"), "{}", &text[..20]);
        assert!(text.ends_with("1499\n"));
        tail.push("x".repeat(BYTES_MAX));
        assert_eq!(tail.text().len(), BYTES_MAX);
    }
}
