//! Names as vis(3) writes them: `\040`, `\s`, `\M-C`, `\^A`.

use std::borrow::Cow;

/// The bytes that a word stands for; `None` if a backslash is followed by nothing that unvis(3) knows.
pub(super) fn decode(word: &[u8]) -> Option<Cow<'_, [u8]>> {
    if !word.contains(&b'\\') {
        return Some(Cow::Borrowed(word));
    }
    let mut decoded = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((byte, behind)) = rest.split_first() {
        if *byte == b'\\' {
            let (byte, behind) = sequence(behind)?;
            decoded.push(byte);
            rest = behind;
        } else {
            decoded.push(*byte);
            rest = behind;
        }
    }
    Some(Cow::Owned(decoded))
}

/// One sequence, without its backslash, and what follows it.
fn sequence(text: &[u8]) -> Option<(u8, &[u8])> {
    let (byte, rest) = text.split_first()?;
    let plain = |byte| Some((byte, rest));
    match byte {
        b'0'..=b'7' => octal(text),
        b'a' => plain(0x07),
        b'b' => plain(0x08),
        b'E' => plain(0x1b),
        b'f' => plain(0x0c),
        b'n' => plain(b'\n'),
        b'r' => plain(b'\r'),
        b's' => plain(b' '),
        b't' => plain(b'\t'),
        b'v' => plain(0x0b),
        b'\\' | b'#' => plain(*byte),
        b'^' => control(rest),
        b'M' => match rest.split_first()? {
            (b'-', rest) => rest.split_first().map(|(byte, rest)| (byte | 0x80, rest)),
            (b'^', rest) => control(rest).map(|(byte, rest)| (byte | 0x80, rest)),
            _ => None,
        },
        _ => None,
    }
}

/// One to three octal digits, at most `377`.
fn octal(text: &[u8]) -> Option<(u8, &[u8])> {
    let count = text
        .iter()
        .take(3)
        .take_while(|byte| matches!(byte, b'0'..=b'7'))
        .count();
    let (digits, rest) = text.split_at_checked(count)?;
    let digits = str::from_utf8(digits).ok()?;
    Some((u8::from_str_radix(digits, 8).ok()?, rest))
}

/// The letter behind a caret.
fn control(text: &[u8]) -> Option<(u8, &[u8])> {
    let (letter, rest) = text.split_first()?;
    match letter {
        b'?' => Some((0x7f, rest)),
        b'@'..=b'_' | b'a'..=b'z' => Some((letter & 0x1f, rest)),
        _ => None,
    }
}
