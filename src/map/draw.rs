//! Lengths of pictures, and text that stays text.

use std::fmt;

/// A length in hundredths of a pixel: exact where floating point would not be, and short when written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Px(pub(super) u64);

impl Px {
    pub(super) const fn whole(pixels: u64) -> Self {
        Self(pixels.saturating_mul(100))
    }

    pub(super) const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    pub(super) const fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// `part` of `whole` of this length.
    pub(super) fn share(self, part: u64, whole: u64) -> Self {
        let scaled = u128::from(self.0).saturating_mul(part.min(whole).into());
        let share = scaled.checked_div(whole.into()).unwrap_or(0);
        Self(u64::try_from(share).unwrap_or(self.0))
    }
}

impl fmt::Display for Px {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, hundredths) = (self.0.div_euclid(100), self.0.rem_euclid(100));
        if hundredths == 0 {
            write!(f, "{whole}")
        } else {
            write!(f, "{whole}.{hundredths:02}")
        }
    }
}

/// `text` for an element or an attribute of XML or HTML; characters that XML cannot hold are replaced.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// `12.3 %`, of a whole that is not 0.
pub(super) fn percent(part: u64, whole: u64) -> String {
    let scaled = u128::from(part).saturating_mul(1000);
    let tenths = scaled.checked_div(whole.into()).unwrap_or(0);
    if tenths == 0 && part > 0 {
        return "below 0.1 %".to_owned();
    }
    format!("{}.{} %", tenths.div_euclid(10), tenths.rem_euclid(10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_exact_and_short() {
        let bar = Px::whole(1160);
        assert_eq!(bar.share(1, 3).to_string(), "386.66");
        assert_eq!(bar.share(1, 2).to_string(), "580");
        assert_eq!(bar.share(u64::MAX, u64::MAX), bar);
        assert_eq!(bar.share(1, 0), Px(0));
        assert_eq!(Px(105).to_string(), "1.05");
    }

    #[test]
    fn no_text_is_markup() {
        assert_eq!(
            escape("a<b>&\"'\u{1}\u{fffe}é"),
            "a&lt;b&gt;&amp;&quot;&#39;\u{fffd}\u{fffd}é"
        );
    }

    #[test]
    fn percentages_are_of_tenths() {
        assert_eq!(percent(1, 3), "33.3 %");
        assert_eq!(percent(1, 1_000_000), "below 0.1 %");
        assert_eq!(percent(0, 7), "0.0 %");
        assert_eq!(percent(7, 7), "100.0 %");
    }
}
