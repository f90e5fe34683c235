//! Items of the hardware.

use std::fmt::{self, Display};

use super::xml::Escaped;

/// One `Item` of the hardware: its children sorted by name.
pub(super) struct Item {
    fields: Vec<(&'static str, String)>,
    required: bool,
}

impl Item {
    pub(super) fn new(id: u32, resource_type: u32, name: &str) -> Self {
        Self {
            fields: vec![
                ("ElementName", name.to_owned()),
                ("InstanceID", id.to_string()),
                ("ResourceType", resource_type.to_string()),
            ],
            required: true,
        }
    }

    pub(super) fn with(mut self, field: &'static str, value: impl Display) -> Self {
        self.fields.push((field, value.to_string()));
        self
    }

    /// An importer that does not know the item may leave it out.
    pub(super) fn optional(mut self) -> Self {
        self.required = false;
        self
    }

    pub(super) fn write(mut self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fields.sort_unstable();
        f.write_str(if self.required {
            "      <Item>\n"
        } else {
            "      <Item ovf:required=\"false\">\n"
        })?;
        for (field, value) in &self.fields {
            writeln!(f, "        <rasd:{field}>{}</rasd:{field}>", Escaped(value))?;
        }
        f.write_str("      </Item>\n")
    }
}
