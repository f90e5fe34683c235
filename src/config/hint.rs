//! What to do about a mistake in the config.
//!
//! Invariant: every kind of error has a hint, and it says what to write, not again what is wrong; so no match here
//! has an arm that returns nothing.

use std::io;
use std::path::Path;

use super::error::{ConfigErrorKind, listed};
use super::keys::nearest;
use crate::units::{KIB, MIB, ParseSizeError, SECTOR_SIZE};

const RELATIVE_PATHS: &str =
    "relative paths start at the directory of the config file that names them";
const OWNERS: &str = "name a manifest of mtree(5), such as `bsdtar -cf owners.mtree --format=mtree -C DIRECTORY .` writes";
const PERMISSIONS: &str = "run as a user who may read it, or change its permissions";
const SIZE: &str = "write a whole number with a unit K, M, G, T, KiB, MiB, GiB, TiB (powers of 1024) or s (sectors), such as \"256MiB\"";

/// What to do about `kind`; `included` tells a file that another names from the config itself.
pub(super) fn hint(kind: &ConfigErrorKind, included: bool) -> String {
    use ConfigErrorKind as Kind;
    match kind {
        Kind::Unreadable { error, .. } => unreadable(error, included).to_owned(),
        Kind::Syntax { message } if message.starts_with("duplicate key") => {
            "a key stands once in its table; remove one of the two".to_owned()
        }
        Kind::Syntax { .. } => {
            "a config is TOML: key = value, texts in quotes, tables as [name] or [[name]]; see https://toml.io".to_owned()
        }
        Kind::IncludeCycle { .. } => "remove one of the includes".to_owned(),
        Kind::UnknownKey { advice, .. } => advice.clone(),
        Kind::WrongType { key: "mode", .. } | Kind::Mode { .. } => {
            "write the mode as a text of octal digits, such as \"0644\"".to_owned()
        }
        Kind::WrongType { key: "owner", .. } | Kind::Owner { .. } => {
            "owners are numeric, user:group; names would depend on the host".to_owned()
        }
        Kind::WrongType { advice, .. } => advice.clone(),
        Kind::IntegerTooLarge { key } => match *key {
            "size" | "start" | "free" | "memory" | "journal" => SIZE.to_owned(),
            _ => format!("write a smaller number; {}", note(key)),
        },
        Kind::MissingKey { key, table } => missing_key(key, table).to_owned(),
        Kind::UnknownValue { key, value, known } => unknown_value(key, value, known),
        Kind::Size { reason, .. } => size(reason),
        Kind::FractionalSize { text, .. } => fractional_size(text),
        Kind::OutOfRange { max: i64::MAX, .. } => SIZE.to_owned(),
        Kind::OutOfRange { key, value, min, max } => {
            let bound = if value < min {
                format!("at least {min}")
            } else {
                format!("at most {max}")
            };
            format!("write {bound}; {}", note(key))
        }
        Kind::NotMultiple { key, bytes, .. } => not_multiple(key, *bytes),
        Kind::Text { key, value, rule } => text(key, value, rule),
        Kind::NoName { .. } => "add name = \"…\" at the top of the config".to_owned(),
        Kind::IdRange { .. } => {
            "\"100000:0:65536\" makes 100000 of the source 0 in the image, and so on for 65536 of them".to_owned()
        }
        Kind::MapBesideOwner { .. } | Kind::TwoContents => "leave one of the two out".to_owned(),
        Kind::Base64(_) => {
            "`base64 -w0 FILE` prints it; white space between characters is fine".to_owned()
        }
        Kind::VariableName { .. } => "rename it, such as root-password_2".to_owned(),
        Kind::UnknownVariable {
            nearest: Some(name), ..
        } => format!("did you mean `{{{{{name}}}}}`?"),
        Kind::UnknownVariable { .. } => {
            "[variables] holds the names, as in name = \"value\"; `{{{{` is a literal `{{`".to_owned()
        }
        Kind::Braces { .. } => "write `{{{{` for a literal `{{`".to_owned(),
        Kind::NumberOfNoDevice { key, .. } => format!("leave `{key}` out"),
        Kind::ImagePath { value, .. } => image_path(value),
        Kind::Pattern { key, pattern, .. } => self::pattern(key, pattern),
        Kind::Newest(error) => error.hint(),
        Kind::Missing { key: "from", path } if has_star(path) => {
            "newest = true takes the newest of what matches a `*`".to_owned()
        }
        Kind::Missing { .. } => RELATIVE_PATHS.to_owned(),
        Kind::Forbidden { .. } => PERMISSIONS.to_owned(),
        Kind::Inaccessible { error, .. } if error.kind() == io::ErrorKind::NotADirectory => {
            "what stands before a `/` must be a directory; one here is a file".to_owned()
        }
        Kind::Inaccessible { .. } => "look at it with `ls -ld`, or name another path".to_owned(),
        Kind::FileType { key, .. } => file_type(key).to_owned(),
        Kind::Layout(error) => error.hint(),
        Kind::Ext4(error) => error.hint(),
        Kind::Boot(error) => error.hint(),
        Kind::Vm(error) => error.hint(),
        Kind::NoImages => "leave [images] out to get disk.img, disk.vmdk and boot.ova".to_owned(),
        Kind::KeyOfOtherFormat { key, owners, .. } => {
            format!("leave `{key}` out, or write format = {}", listed(owners))
        }
        Kind::NoVmdk => {
            "add \"disk.vmdk\" = { format = \"vmdk\" }; VMware runs no streamOptimized disk".to_owned()
        }
        Kind::UnknownVmdk { name, known } => match nearest(name, known.iter().map(String::as_str)) {
            Some(name) => format!("did you mean \"{name}\"?"),
            None => format!("there are {}; leave `disk` out for the first", known.join(", ")),
        },
        Kind::KeyNeeds { key, needs } => format!("leave `{key}` out, or write {needs}"),
        Kind::UnknownPartition { label, known, .. } => {
            match nearest(label, known.iter().map(String::as_str)) {
                Some(name) => format!("did you mean \"{name}\"?"),
                None => format!("the partitions are {}", known.join(", ")),
            }
        }
        Kind::Epoch { .. } => {
            "unset it, or give the seconds since 1970: SOURCE_DATE_EPOCH=$(date +%s)".to_owned()
        }
    }
}

fn has_star(path: &Path) -> bool {
    let name = path.file_name().and_then(std::ffi::OsStr::to_str);
    name.is_some_and(|name| name.contains('*'))
}

fn unreadable(error: &io::Error, included: bool) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound if included => RELATIVE_PATHS,
        io::ErrorKind::NotFound => "`miragefs init` writes a starter config",
        io::ErrorKind::PermissionDenied => PERMISSIONS,
        io::ErrorKind::IsADirectory => "name the config in the directory, such as miragefs.toml",
        io::ErrorKind::InvalidData => "a config is text in UTF-8; save it as that",
        _ => "look at it with `ls -ld`, or name another file",
    }
}

fn missing_key(key: &str, table: &str) -> &'static str {
    match (key, table) {
        ("from", _) => {
            "name a file or directory of the host, as in { from = \"boot\", to = \"/\" }"
        }
        ("text", _) | ("path", "an entry of files") => {
            "write both, as in { path = \"/etc/motd\", text = \"welcome\" }"
        }
        ("target", _) | ("path", "an entry of symlink") => {
            "write both, as in { path = \"/etc/mtab\", target = \"/proc/mounts\" }"
        }
        ("key", _) => {
            "name the property, as in { key = \"hostname\", value = \"lab\", user-configurable = true }"
        }
        ("path", "an entry of mkdir") => "name the directory, as in { path = \"/var/lib/lab\" }",
        ("name", _) => "name the network, as in { name = \"nat\", adapter = \"e1000\" }",
        ("format", _) => "write { format = \"raw\" }, or \"vmdk\" or \"ova\"",
        ("type" | "major" | "minor", _) | ("path", _) => {
            "write all of them, as in { path = \"/dev/null\", type = \"char\", major = 1, minor = 3 }"
        }
        _ => "add it; docs/config.md has an example of every table",
    }
}

fn unknown_value(key: &str, value: &str, known: &[&'static str]) -> String {
    if let Some(word) = nearest(value, known.iter().copied()) {
        return format!("did you mean \"{word}\"?");
    }
    let words = listed(known);
    let default = match key {
        // These have none.
        "format" | "type" => return format!("write {key} = {words}"),
        "bootloader" => Some("none"),
        _ => known.first().copied(),
    };
    let default = default.unwrap_or_default();
    if known.len() > 1 {
        format!("write {key} = {words}; left out it is \"{default}\"")
    } else {
        format!("write {key} = \"{default}\", or leave it out")
    }
}

fn size(reason: &ParseSizeError) -> String {
    match reason {
        ParseSizeError::UnknownUnit { text, unit } => {
            let letter = unit
                .chars()
                .next()
                .map(|letter| letter.to_ascii_uppercase());
            let number: String = text
                .trim()
                .chars()
                .take_while(char::is_ascii_digit)
                .collect();
            match letter {
                // MB, mb, m, Mib and so on are meant as a unit of this letter.
                Some(letter @ ('K' | 'M' | 'G' | 'T')) if unit.len() <= 3 => {
                    format!("write {number}{letter}iB")
                }
                _ => SIZE.to_owned(),
            }
        }
        ParseSizeError::NotANumber(_) => SIZE.to_owned(),
        ParseSizeError::TooLarge(_) => "write a smaller number or unit".to_owned(),
    }
}

/// `1.5GiB` is 1536MiB, if a smaller unit makes it whole.
fn fractional_size(text: &str) -> String {
    let advice = "write a whole number of a smaller unit, such as";
    whole_size(text).map_or_else(
        || format!("{advice} \"1536MiB\" for 1.5 GiB"),
        |whole| format!("{advice} {whole}"),
    )
}

fn whole_size(text: &str) -> Option<String> {
    let text = text.trim();
    let unit_start = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
    let (number, unit) = text.split_at(unit_start);
    let (whole, fraction) = number.split_once('.')?;
    let units = ["K", "M", "G", "T"];
    let unit = unit.trim().chars().next()?.to_ascii_uppercase().to_string();
    let index = units.iter().position(|known| *known == unit)?;
    let digits: u64 = format!("{whole}{fraction}").parse().ok()?;
    let scale = 10_u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let mut scaled = digits;
    for smaller in (0..index).rev() {
        scaled = scaled.checked_mul(KIB)?;
        if scaled.is_multiple_of(scale) {
            let count = scaled.checked_div(scale)?;
            return Some(format!("{count}{}iB", units.get(smaller)?));
        }
    }
    None
}

/// What is known of the number `key`, for one that is out of range.
fn note(key: &str) -> &'static str {
    match key {
        "cpus" => "left out it is 2",
        "hardware-version" => "left out it is 13, which ESXi 6.5 and later know",
        "reserved-percent" => "left out it is 5",
        "source-date-epoch" => "`date +%s` prints the seconds since 1970 until now",
        "inodes" => "\"auto\" is one per 16 KiB",
        "slack-bits" => {
            "left out it is 6; 0 is no slack, and otherwise the fewer bits, the more slack"
        }
        "level" => "1 is fast, 12 is small, and left out it is 6",
        "major" | "minor" => "`ls -l` shows both numbers of a device",
        _ => "leave it out for the default",
    }
}

fn not_multiple(key: &str, bytes: u64) -> String {
    match key {
        "start" if bytes == 0 => {
            "write \"1MiB\" or leave `start` out; sector 0 holds the partition table".to_owned()
        }
        "memory" if bytes == 0 => "write a size such as \"1GiB\"".to_owned(),
        "memory" => format!("the next multiple is {}MiB", bytes.div_ceil(MIB)),
        _ if bytes == 0 => {
            "write a size such as \"256MiB\", or \"auto\" for what the contents need".to_owned()
        }
        _ => format!("the next multiple is {}s", bytes.div_ceil(SECTOR_SIZE)),
    }
}

fn text(key: &str, value: &str, rule: &str) -> String {
    let advice = match key {
        // A network has a name, too, which may be any text.
        "name" if rule.contains("A-Z") => return machine_name(value),
        "name" => "write a name such as \"nat\"",
        "seed" => "write any text on one line, or leave `seed` out to take the name",
        "label" => "write a label such as \"boot\", or leave it out to get partition-1 and so on",
        "images" if value.contains('/') => {
            "all images lie side by side in the mount point; leave the directory out"
        }
        "images" => "choose another name of a file, such as \"disk.img\"",
        "target" => "write where the link leads, such as \"../etc/fstab\"",
        "inodes" => "write a number without quotes, such as inodes = 65536, or leave it out",
        "owners" => OWNERS,
        "template" => "name the .vmx or .ovf",
        "product" | "product-version" | "vendor" => "write a text on one line, or leave it out",
        "from" => "name a file or directory; \".\" is the config's own directory",
        _ => "write a text on one line",
    };
    advice.to_owned()
}

fn machine_name(value: &str) -> String {
    let fitting: String = value
        .chars()
        .map(|letter| {
            let fits = letter.is_ascii_alphanumeric() || "._-".contains(letter);
            if fits { letter } else { '-' }
        })
        .take(80)
        .collect();
    let fitting = if fitting.is_empty() { "lab" } else { &fitting };
    format!("write name = \"{fitting}\", or leave it out to take the file's name")
}

fn image_path(value: &str) -> String {
    if value.contains('\0') {
        return "leave the NUL out".to_owned();
    }
    if !value.starts_with('/') || value.split('/').any(|part| part == "..") {
        let mut parts = Vec::new();
        for part in value.split('/').filter(|part| !part.is_empty()) {
            match part {
                ".." => drop(parts.pop()),
                "." => {}
                part => parts.push(part),
            }
        }
        return format!("write \"/{}\"", parts.join("/").escape_default());
    }
    match value.trim_end_matches('/') {
        "" => "write a path below the root, such as \"/etc/motd\"".to_owned(),
        file if file.len() < value.len() && file.len() < 256 => format!(
            "leave the `/` at the end out: \"{}\"; directories are made with mkdir",
            file.escape_default()
        ),
        _ => "shorten the name".to_owned(),
    }
}

fn pattern(key: &str, pattern: &str) -> String {
    if key == "xattrs" {
        return "write a name or how names begin, such as \"user.*\"; \"!user.*\" leaves those out"
            .to_owned();
    }
    let bare = pattern.strip_prefix('!').unwrap_or(pattern).trim();
    if bare.is_empty() {
        "leave it out, or write \"*\" for everything".to_owned()
    } else if pattern.starts_with('#') {
        format!("write '\\{pattern}', in single quotes, for a name that begins with `#`")
    } else {
        "patterns are as in .gitignore; before `[`, `{`, `*` or `?` in a name write a backslash, in single quotes"
            .to_owned()
    }
}

fn file_type(key: &str) -> &'static str {
    match key {
        "from" => {
            "devices, FIFOs and sockets are made by an entry of device, such as { path = \"/dev/null\", type = \"char\", major = 1, minor = 3 }"
        }
        "owners" => OWNERS,
        "boot-code" => "name the file itself, such as /usr/lib/EXTLINUX/mbr.bin, or \"syslinux\"",
        "extlinux" => "name the executable itself, such as /usr/bin/extlinux, or \"auto\"",
        "template" => "name the .vmx or .ovf itself",
        _ => "name the file itself",
    }
}
