//! What people read about the machine, and what they can set when they deploy it.

use std::collections::BTreeSet;

use toml::Spanned;

use super::VmError;
use crate::config::error::ConfigErrorKind;
use crate::config::raw::{RawProperty, RawVariable, RawVm};
use crate::config::resolve::{Context, Result};
use crate::config::spec::{ProductSpec, PropertySpec, PropertyType};

/// A few pages; a bound against a wrong file.
const ANNOTATION_LEN_MAX: usize = 32_768;
const PROPERTY_KEY_LEN_MAX: usize = 255;

/// Notes, which may have several lines.
pub(super) fn annotation(raw: &RawVm, context: &Context<'_>) -> Result<Option<String>> {
    let Some(typed) = &raw.annotation else {
        return Ok(None);
    };
    let text = multiline("annotation", typed, context)?;
    let len = text.len();
    if len > ANNOTATION_LEN_MAX {
        let (key, max) = ("annotation", ANNOTATION_LEN_MAX);
        return Err(context.error(&typed.span(), VmError::TooLong { key, len, max }));
    }
    Ok((!text.is_empty()).then_some(text))
}

/// Product, vendor and properties.
pub(super) fn resolve(raw: &RawVm, context: &Context<'_>) -> Result<ProductSpec> {
    let printable = |key, typed: &Option<Spanned<String>>| {
        let typed = typed.as_ref();
        typed.map(|typed| context.printable(key, typed)).transpose()
    };
    let mut properties = Vec::new();
    let mut keys = BTreeSet::new();
    for typed in raw.properties.iter().flat_map(|typed| typed.get_ref()) {
        let property = property(typed, context)?;
        if !keys.insert(property.key.clone()) {
            let key = property.key;
            return Err(context.error(&typed.span(), VmError::PropertyTwice { key }));
        }
        properties.push(property);
    }
    Ok(ProductSpec {
        name: printable("product", &raw.product)?,
        version: printable("product-version", &raw.product_version)?,
        vendor: printable("vendor", &raw.vendor)?,
        properties,
    })
}

fn property(typed: &Spanned<RawProperty>, context: &Context<'_>) -> Result<PropertySpec> {
    let raw = typed.get_ref();
    let Some(typed_key) = &raw.key else {
        let (key, table) = ("key", "an entry of properties");
        return Err(context.error(&typed.span(), ConfigErrorKind::MissingKey { key, table }));
    };
    let key = typed_key.get_ref().clone();
    let is_key = (1..=PROPERTY_KEY_LEN_MAX).contains(&key.len())
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if !is_key {
        return Err(context.error(&typed_key.span(), VmError::PropertyKey { key }));
    }
    let kinds = [
        ("string", ("string", PropertyType::String)),
        ("boolean", ("boolean", PropertyType::Boolean)),
        ("uint64", ("uint64", PropertyType::Unsigned)),
        ("sint64", ("sint64", PropertyType::Signed)),
        ("real64", ("real64", PropertyType::Real)),
    ];
    let (kind_name, kind) = context
        .choice("type", raw.r#type.as_ref(), &kinds)?
        .unwrap_or(("string", PropertyType::String));
    let user_configurable = raw
        .user_configurable
        .as_ref()
        .is_some_and(|typed| *typed.get_ref());
    let value = match &raw.value {
        None if user_configurable => String::new(),
        None => return Err(context.error(&typed.span(), VmError::PropertyWithoutValue { key })),
        Some(typed) => {
            let value = match typed.get_ref() {
                RawVariable::Number(value) => value.to_string(),
                RawVariable::Text(value) => value.clone(),
            };
            check_text("value", &value, typed, context)?;
            if !fits(&value, kind) {
                let kind = VmError::PropertyValue {
                    key,
                    value,
                    kind: kind_name,
                };
                return Err(context.error(&typed.span(), kind));
            }
            value
        }
    };
    let text = |key, typed: &Option<Spanned<String>>| {
        let typed = typed.as_ref();
        typed
            .map(|typed| multiline(key, typed, context))
            .transpose()
    };
    Ok(PropertySpec {
        key,
        value,
        kind,
        label: text("label", &raw.label)?,
        description: text("description", &raw.description)?,
        user_configurable,
    })
}

/// Whether `value` can stand for the type; whoever deploys the machine gives the value that is left empty.
fn fits(value: &str, kind: PropertyType) -> bool {
    match kind {
        PropertyType::String => true,
        PropertyType::Boolean => matches!(value, "true" | "false"),
        PropertyType::Unsigned => value.parse::<u64>().is_ok() && !value.starts_with('+'),
        PropertyType::Signed => value.parse::<i64>().is_ok() && !value.starts_with('+'),
        PropertyType::Real => value.parse::<f64>().is_ok_and(f64::is_finite),
    }
}

fn multiline(key: &'static str, typed: &Spanned<String>, context: &Context<'_>) -> Result<String> {
    check_text(key, typed.get_ref(), typed, context)?;
    Ok(typed.get_ref().clone())
}

/// Control characters other than these have no place in XML.
fn check_text<T>(
    key: &'static str,
    text: &str,
    typed: &Spanned<T>,
    context: &Context<'_>,
) -> Result<()> {
    let is_foreign = |letter: char| letter.is_control() && letter != '\n' && letter != '\t';
    if text.chars().any(is_foreign) {
        return Err(context.error(&typed.span(), VmError::Control { key }));
    }
    Ok(())
}
