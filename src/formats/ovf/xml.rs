//! Pieces of XML.

use std::fmt::{self, Display, Write};

/// Text for an element or a quoted attribute; what XML 1.0 cannot hold becomes U+FFFD.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                // As references they survive the normalisation of attributes and line ends.
                '\t' | '\n' | '\r' => write!(f, "&#{};", u32::from(c))?,
                '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => f.write_char('\u{fffd}')?,
                _ => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// An attribute with a blank in front.
pub(super) struct Attribute<'a>(pub(super) &'a str, pub(super) &'a str);

impl Display for Attribute<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " {}=\"{}\"", self.0, Escaped(self.1))
    }
}

/// A line with an element of text, if there is any.
pub(super) fn element(
    f: &mut fmt::Formatter<'_>,
    indent: &str,
    name: &str,
    text: Option<&str>,
) -> fmt::Result {
    match text {
        None => Ok(()),
        Some(text) => writeln!(f, "{indent}<{name}>{}</{name}>", Escaped(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped() {
        assert_eq!(
            Escaped("a&b<c>\"d\"\n\u{1}é").to_string(),
            "a&amp;b&lt;c&gt;&quot;d&quot;&#10;\u{fffd}é"
        );
        assert_eq!(Attribute("a", "\"").to_string(), " a=\"&quot;\"");
    }
}
