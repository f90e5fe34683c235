//! What people read about the machine and can set, and VMware's own keys.

use std::fmt;

use super::xml::{Attribute, Escaped, element};
use super::{Ovf, Product, Property};

impl Ovf<'_> {
    pub(super) fn write_annotation(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(annotation) = self.annotation else {
            return Ok(());
        };
        writeln!(
            f,
            "    <AnnotationSection>\n      <Info>Notes on the machine</Info>\n      \
             <Annotation>{}</Annotation>\n    </AnnotationSection>",
            Escaped(annotation)
        )
    }
}

impl Product<'_> {
    pub(super) fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Product::default() {
            return Ok(());
        }
        f.write_str("    <ProductSection>\n      <Info>Information about the product</Info>\n")?;
        let indent = "      ";
        element(f, indent, "Product", self.name)?;
        element(f, indent, "Vendor", self.vendor)?;
        element(f, indent, "Version", self.version)?;
        for property in &self.properties {
            property.write(f)?;
        }
        f.write_str("    </ProductSection>\n")
    }
}

impl Property<'_> {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let configurable = if self.user_configurable {
            "true"
        } else {
            "false"
        };
        write!(
            f,
            "      <Property{}{}{}",
            Attribute("ovf:key", self.key),
            Attribute("ovf:type", self.kind),
            Attribute("ovf:userConfigurable", configurable),
        )?;
        // An empty text is one; an empty number would be none.
        if !self.value.is_empty() || self.kind == "string" {
            write!(f, "{}", Attribute("ovf:value", self.value))?;
        }
        if self.label.is_none() && self.description.is_none() {
            return f.write_str("/>\n");
        }
        f.write_str(">\n")?;
        let indent = "        ";
        element(f, indent, "Label", self.label)?;
        element(f, indent, "Description", self.description)?;
        f.write_str("      </Property>\n")
    }
}

/// A key of VMware's that other importers may leave out: `Config` or `ExtraConfig`.
pub(super) fn write_config(
    f: &mut fmt::Formatter<'_>,
    element: &str,
    (key, value): (&str, &str),
) -> fmt::Result {
    writeln!(
        f,
        "      <vmw:{element} ovf:required=\"false\"{}{}/>",
        Attribute("vmw:key", key),
        Attribute("vmw:value", value),
    )
}
