//! Which keys a config may have, and of which type; the documentation is tested against this table.
//!
//! Invariant: after [`check`] a document has only keys of [`ROOT`], each of the right type, so that the types of
//! [`super::raw`] always fit.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::document::SourceMap;
use super::error::{ConfigError, ConfigErrorKind};

/// A table of the config and its keys.
#[derive(Debug)]
pub(crate) struct TableKeys {
    /// As people write it: `[disk]`.
    pub(crate) title: &'static str,
    pub(crate) keys: &'static [Key],
}

/// A key: its name and what it may hold.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
}

/// What a key may hold.
#[derive(Debug)]
pub(crate) enum Shape {
    Text,
    Boolean,
    Integer,
    /// A number of bytes, or a text with a unit.
    Size,
    /// A boolean, or a size.
    Switch,
    /// An integer or a text.
    Count,
    /// A text or an integer.
    TextOrInteger,
    Texts,
    /// An array of texts, or one text.
    IdMap,
    Table(&'static TableKeys),
    /// An array of tables.
    Tables(&'static TableKeys),
    /// A table of texts and integers with free names.
    Variables,
    /// A table of tables with free names.
    NamedTables(&'static TableKeys),
}

const fn key(name: &'static str, shape: Shape) -> Key {
    Key { name, shape }
}

/// The top level.
pub(crate) const ROOT: TableKeys = TableKeys {
    title: "the top level",
    keys: &[
        key("include", Shape::Texts),
        key("name", Shape::Text),
        key("seed", Shape::Text),
        key("source-date-epoch", Shape::Integer),
        key("on-change", Shape::Text),
        key("variables", Shape::Variables),
        key("disk", Shape::Table(&DISK)),
        key("bootloader", Shape::Table(&BOOTLOADER)),
        key("partition", Shape::Tables(&PARTITION)),
        key("vm", Shape::Table(&VM)),
        key("images", Shape::NamedTables(&IMAGE)),
    ],
};

const DISK: TableKeys = TableKeys {
    title: "[disk]",
    keys: &[
        key("size", Shape::Size),
        key("table", Shape::Text),
        key("boot-code", Shape::Text),
    ],
};

const BOOTLOADER: TableKeys = TableKeys {
    title: "[bootloader]",
    keys: &[key("extlinux", Shape::Text)],
};

const PARTITION: TableKeys = TableKeys {
    title: "[[partition]]",
    keys: &[
        key("label", Shape::Text),
        key("start", Shape::Size),
        key("size", Shape::Size),
        key("free", Shape::Size),
        key("active", Shape::Boolean),
        key("type", Shape::Text),
        key("filesystem", Shape::Text),
        key("bootloader", Shape::Text),
        key("bootloader-directory", Shape::Text),
        key("copy", Shape::Tables(&COPY)),
        key("mkdir", Shape::Tables(&DIRECTORY)),
        key("files", Shape::Tables(&FILE)),
        key("symlink", Shape::Tables(&SYMLINK)),
        key("device", Shape::Tables(&DEVICE)),
        key("ext4", Shape::Table(&EXT4)),
    ],
};

const COPY: TableKeys = TableKeys {
    title: "copy",
    keys: &[
        key("from", Shape::Text),
        key("newest", Shape::Boolean),
        key("to", Shape::Text),
        key("owner", Shape::Text),
        key("owners", Shape::Text),
        key("mode", Shape::Text),
        key("exclude", Shape::Texts),
        key("cross-mounts", Shape::Boolean),
        key("include", Shape::Texts),
        key("sparse", Shape::Text),
        key("xattrs", Shape::Texts),
        key("uid-map", Shape::IdMap),
        key("gid-map", Shape::IdMap),
    ],
};

const FILE: TableKeys = TableKeys {
    title: "files",
    keys: &[
        key("path", Shape::Text),
        key("text", Shape::Text),
        key("base64", Shape::Text),
        key("mode", Shape::Text),
        key("owner", Shape::Text),
    ],
};

const DIRECTORY: TableKeys = TableKeys {
    title: "mkdir",
    keys: &[
        key("path", Shape::Text),
        key("mode", Shape::Text),
        key("owner", Shape::Text),
    ],
};

const SYMLINK: TableKeys = TableKeys {
    title: "symlink",
    keys: &[
        key("path", Shape::Text),
        key("target", Shape::Text),
        key("owner", Shape::Text),
    ],
};

const DEVICE: TableKeys = TableKeys {
    title: "device",
    keys: &[
        key("path", Shape::Text),
        key("type", Shape::Text),
        key("major", Shape::Integer),
        key("minor", Shape::Integer),
        key("mode", Shape::Text),
        key("owner", Shape::Text),
    ],
};

const EXT4: TableKeys = TableKeys {
    title: "[partition.ext4]",
    keys: &[
        key("features", Shape::Text),
        key("label", Shape::Text),
        key("uuid", Shape::Text),
        key("journal", Shape::Switch),
        key("block-size", Shape::Size),
        key("inode-size", Shape::Size),
        key("reserved-percent", Shape::Integer),
        key("inodes", Shape::Count),
        key("slack-bits", Shape::Integer),
    ],
};

const VM: TableKeys = TableKeys {
    title: "[vm]",
    keys: &[
        key("memory", Shape::Size),
        key("cpus", Shape::Integer),
        key("guest-os", Shape::Text),
        key("firmware", Shape::Text),
        key("hardware-version", Shape::Integer),
        key("disk-controller", Shape::Text),
        key("scsi-controller", Shape::Text),
        key("networks", Shape::Tables(&NETWORK)),
        key("annotation", Shape::Text),
        key("product", Shape::Text),
        key("product-version", Shape::Text),
        key("vendor", Shape::Text),
        key("properties", Shape::Tables(&PROPERTY)),
        key("vmx", Shape::Variables),
        key("template", Shape::Text),
    ],
};

const PROPERTY: TableKeys = TableKeys {
    title: "properties",
    keys: &[
        key("key", Shape::Text),
        key("value", Shape::TextOrInteger),
        key("type", Shape::Text),
        key("label", Shape::Text),
        key("description", Shape::Text),
        key("user-configurable", Shape::Boolean),
    ],
};

const NETWORK: TableKeys = TableKeys {
    title: "networks",
    keys: &[key("name", Shape::Text), key("adapter", Shape::Text)],
};

const IMAGE: TableKeys = TableKeys {
    title: "[images]",
    keys: &[
        key("format", Shape::Text),
        key("partition", Shape::Text),
        key("disk", Shape::Text),
        key("layout", Shape::Text),
        key("grain-directory", Shape::Text),
        key("compression", Shape::Text),
        key("level", Shape::Integer),
        key("manifest", Shape::Text),
        key("manifest-position", Shape::Text),
        key("provider", Shape::Text),
    ],
};

impl Shape {
    /// What a value of this shape is called in messages.
    fn expected(&self) -> &'static str {
        match self {
            Self::Text => "a text in quotes",
            Self::Boolean => "true or false",
            Self::Integer => "an integer",
            Self::Size => "a size such as \"256MiB\" or a number of bytes",
            Self::Switch => "true, false or a size",
            Self::Count => "an integer or \"auto\"",
            Self::TextOrInteger => "a text in quotes or an integer",
            Self::Texts => "an array of texts",
            Self::IdMap => "an array of texts, or \"all-root\"",
            Self::Table(_) => "a table",
            Self::Tables(_) => "an array of tables",
            Self::Variables => "a table of texts and integers",
            Self::NamedTables(_) => "a table of tables",
        }
    }
}

impl Key {
    /// What to write for a value of another type.
    fn example(&self) -> String {
        let name = self.name;
        match self.shape {
            Shape::Text => format!("write {name} = \"…\""),
            Shape::Boolean => format!("write {name} = true or {name} = false, without quotes"),
            Shape::Integer => {
                let number = match name {
                    "source-date-epoch" => 1_700_000_000,
                    "hardware-version" => 13,
                    "reserved-percent" => 5,
                    "level" => 6,
                    _ => 2,
                };
                format!("write a whole number without quotes, such as {name} = {number}")
            }
            Shape::Switch => format!("write {name} = true, {name} = false or {name} = \"64MiB\""),
            Shape::Size if name.ends_with("-size") => {
                format!("write a number of bytes without quotes, such as {name} = 1024")
            }
            Shape::Size => format!("write {name} = \"256MiB\", or a whole number of bytes"),
            Shape::Count => format!("write {name} = 65536 or {name} = \"auto\""),
            Shape::TextOrInteger => format!("write {name} = \"…\", also for true and false"),
            Shape::Texts => {
                let text = match name {
                    "include" => "common.toml",
                    "xattrs" => "user.*",
                    _ => "*.swp",
                };
                format!("write texts in brackets, such as {name} = [\"{text}\"]")
            }
            Shape::IdMap => {
                format!("write {name} = [\"100000:0:65536\"] or {name} = \"all-root\"")
            }
            Shape::Table(known) => {
                format!(
                    "write {} on a line of its own, and its keys below",
                    known.title
                )
            }
            Shape::Tables(_) if name == "partition" => {
                "write [[partition]] on a line of its own, and its keys below".to_owned()
            }
            Shape::Tables(_) => {
                let entry = match name {
                    "copy" => "from = \"boot\", to = \"/\"",
                    "files" => "path = \"/etc/motd\", text = \"welcome\"",
                    "symlink" => "path = \"/etc/mtab\", target = \"/proc/mounts\"",
                    "device" => "path = \"/dev/null\", type = \"char\", major = 1, minor = 3",
                    "networks" => "name = \"nat\"",
                    "properties" => "key = \"hostname\", value = \"lab\"",
                    _ => "path = \"/var/lib/lab\"",
                };
                format!("write {name} = [{{ {entry} }}]")
            }
            Shape::NamedTables(_) => format!(
                "write [{name}] on a line of its own, and below \"disk.img\" = {{ format = \"raw\" }}"
            ),
            Shape::Variables if name == "vmx" => {
                "write [vm.vmx] on a line of its own, and below \"isolation.tools.copy.disable\" = \"TRUE\"".to_owned()
            }
            Shape::Variables => {
                "write [variables] on a line of its own, and below server = \"10.0.0.1\"".to_owned()
            }
        }
    }
}

/// Checks names and types of all keys of `table`.
///
/// # Errors
/// The first key that is unknown or of the wrong type.
pub(crate) fn check(
    sources: &SourceMap,
    table: &DeTable<'_>,
    known: &'static TableKeys,
) -> Result<(), ConfigError> {
    // In the order of the text, so that the first mistake is the one reported.
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    for (name, value) in entries {
        let typed: &str = name.get_ref();
        let Some(key) = known.keys.iter().find(|key| key.name == typed) else {
            return Err(sources.error(
                &name.span(),
                ConfigErrorKind::UnknownKey {
                    key: typed.to_owned(),
                    table: known.title,
                    advice: advice(typed, known),
                },
            ));
        };
        check_value(sources, key, value)?;
    }
    Ok(())
}

fn check_value(
    sources: &SourceMap,
    key: &Key,
    value: &Spanned<DeValue<'_>>,
) -> Result<(), ConfigError> {
    let wrong = |value: &Spanned<DeValue<'_>>| {
        sources.error(
            &value.span(),
            ConfigErrorKind::WrongType {
                key: key.name,
                found: type_name(value.get_ref()),
                expected: key.shape.expected(),
                advice: key.example(),
            },
        )
    };
    match (&key.shape, value.get_ref()) {
        (
            Shape::Text
            | Shape::Size
            | Shape::Switch
            | Shape::Count
            | Shape::TextOrInteger
            | Shape::IdMap,
            DeValue::String(_),
        )
        | (Shape::Boolean | Shape::Switch, DeValue::Boolean(_)) => Ok(()),
        (
            Shape::Integer | Shape::Size | Shape::Switch | Shape::Count | Shape::TextOrInteger,
            DeValue::Integer(number),
        ) => {
            // TOML promises no more than 64 bits with sign.
            match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(_) => Ok(()),
                Err(_) => Err(sources.error(
                    &value.span(),
                    ConfigErrorKind::IntegerTooLarge { key: key.name },
                )),
            }
        }
        (Shape::Texts | Shape::IdMap, DeValue::Array(items)) => {
            match items.iter().find(|item| !item.get_ref().is_str()) {
                Some(item) => Err(wrong(item)),
                None => Ok(()),
            }
        }
        (Shape::Table(known), DeValue::Table(table)) => check(sources, table, known),
        (Shape::Tables(known), DeValue::Array(items)) => {
            items.iter().try_for_each(|item| match item.get_ref() {
                DeValue::Table(table) => check(sources, table, known),
                _ => Err(wrong(item)),
            })
        }
        (Shape::Variables, DeValue::Table(variables)) => {
            variables
                .values()
                .try_for_each(|item| match item.get_ref() {
                    DeValue::String(_) | DeValue::Integer(_) => Ok(()),
                    _ => Err(wrong(item)),
                })
        }
        (Shape::NamedTables(known), DeValue::Table(tables)) => {
            tables.values().try_for_each(|item| match item.get_ref() {
                DeValue::Table(table) => check(sources, table, known),
                _ => Err(wrong(item)),
            })
        }
        _ => Err(wrong(value)),
    }
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// What to do about a key that nobody knows.
fn advice(typed: &str, known: &'static TableKeys) -> String {
    let names = known.keys.iter().map(|key| key.name);
    if let Some(name) = nearest(typed, names.clone()) {
        return format!("did you mean `{name}`?");
    }
    let mut homes = Vec::new();
    collect_homes(typed, &ROOT, &mut homes);
    if !homes.is_empty() {
        return format!("`{typed}` belongs to {}", homes.join(" or "));
    }
    let names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
    format!("keys of {} are {}", known.title, names.join(", "))
}

fn collect_homes(typed: &str, table: &'static TableKeys, homes: &mut Vec<&'static str>) {
    for key in table.keys {
        if key.name == typed && !homes.contains(&table.title) {
            homes.push(table.title);
        }
        if let Shape::Table(inner) | Shape::Tables(inner) | Shape::NamedTables(inner) = key.shape {
            collect_homes(typed, inner, homes);
        }
    }
}

/// The name that `typed` was probably meant to be, if one is near.
pub(crate) fn nearest<'a>(typed: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let plain = typed.to_ascii_lowercase().replace('_', "-");
    // One mistake in three letters, and always one.
    let allowed = plain.len().div_euclid(3).max(1);
    names
        .map(|name| (strsim::damerau_levenshtein(&plain, name), name))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn collect(table: &'static TableKeys, found: &mut BTreeSet<(String, String)>) {
        for key in table.keys {
            found.insert((table.title.to_owned(), key.name.to_owned()));
            if let Shape::Table(inner) | Shape::Tables(inner) | Shape::NamedTables(inner) =
                key.shape
            {
                collect(inner, found);
            }
        }
    }

    /// Every `### \`title\`` of the reference with the keys in the first column of its table.
    #[test]
    fn reference_lists_exactly_the_known_keys() {
        let mut known = BTreeSet::new();
        collect(&ROOT, &mut known);
        let reference = include_str!("../../docs/config.md");
        let mut documented = BTreeSet::new();
        let mut title = None;
        for line in reference.lines() {
            if let Some(heading) = line.strip_prefix("### ") {
                title = Some(heading.replace('`', ""));
            } else if line.starts_with('#') {
                title = None;
            } else if let (Some(title), Some(row)) = (&title, line.strip_prefix("| `")) {
                let (key, _) = row.split_once('`').expect("the key ends with a backtick");
                assert!(
                    documented.insert((title.clone(), key.to_owned())),
                    "{title} {key} is documented twice"
                );
            }
        }
        assert_eq!(documented, known);
    }

    #[test]
    fn suggests_only_what_is_near() {
        let names = ["label", "active", "bootloader-directory"];
        for (typed, expected) in [
            ("lable", Some("label")),
            ("Active", Some("active")),
            ("bootloader_directory", Some("bootloader-directory")),
            ("x", None),
            ("colour", None),
        ] {
            assert_eq!(nearest(typed, names.into_iter()), expected, "{typed}");
        }
    }
}
