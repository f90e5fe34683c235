//! A start tag whose attributes change.

use std::fmt::Write;
use std::ops::Range;

use crate::formats::ovf::xml::Escaped;

/// A start tag as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tag {
    /// Bytes of the text from `<` to behind `>`.
    pub(super) range: Range<usize>,
    /// The name with its prefix.
    pub(super) name: String,
    pub(super) attributes: Vec<Attribute>,
    /// Whether it ends in `/>`.
    pub(super) is_empty: bool,
}

/// An attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attribute {
    /// The name with its prefix.
    pub(super) name: String,
    /// The name without, if it is one of OVF's or VMware's.
    pub(super) local: Option<String>,
    /// Whether it is VMware's.
    pub(super) is_vmware: bool,
    /// What stands between the quotes.
    pub(super) raw: String,
    /// What that means.
    pub(super) value: String,
}

impl Attribute {
    fn is_ovf(&self, local: &str) -> bool {
        !self.is_vmware && self.local.as_deref() == Some(local)
    }
}

impl Tag {
    /// Value of an attribute of OVF.
    pub(super) fn get(&self, local: &str) -> Option<&str> {
        let mut attributes = self.attributes.iter();
        attributes
            .find(|attribute| attribute.is_ovf(local))
            .map(|attribute| attribute.value.as_str())
    }

    /// Value of an attribute of VMware's.
    pub(super) fn get_vmware(&self, local: &str) -> Option<&str> {
        let mut attributes = self.attributes.iter();
        attributes
            .find(|attribute| attribute.is_vmware && attribute.local.as_deref() == Some(local))
            .map(|attribute| attribute.value.as_str())
    }

    /// The tag with other values: `None` leaves an attribute out. What is new stands behind the others and has the
    /// prefix of the attribute `like`; all else stays byte for byte.
    pub(super) fn with(&self, like: &str, values: &[(&str, Option<String>)]) -> String {
        let mut text = format!("<{}", self.name);
        let mut push = |name: &str, raw: &str| {
            write!(text, " {name}=\"{raw}\"").expect("a text takes everything");
        };
        let is_like = |attribute: &&Attribute| attribute.is_ovf(like);
        let prefix = self
            .attributes
            .iter()
            .find(is_like)
            .and_then(|attribute| Some(attribute.name.split_once(':')?.0))
            .map_or(String::new(), |prefix| format!("{prefix}:"));
        for attribute in &self.attributes {
            let new = values.iter().find(|(local, _)| attribute.is_ovf(local));
            match new {
                // Without this, quotes of the other kind would end the value.
                None => push(&attribute.name, &attribute.raw.replace('"', "&quot;")),
                Some((_, None)) => {}
                Some((_, Some(value))) => push(&attribute.name, &Escaped(value).to_string()),
            }
        }
        for (local, value) in values {
            if let (None, Some(value)) = (self.get(local), value) {
                push(&format!("{prefix}{local}"), &Escaped(value).to_string());
            }
        }
        text.push_str(if self.is_empty { "/>" } else { ">" });
        text
    }
}
