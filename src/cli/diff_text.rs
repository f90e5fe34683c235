//! What changed between two plans, for people.

use std::fmt::Write;

use crate::synth::diff::{FileChange, GenerationDiff, ImageBytes, ImageDiff, PartitionDiff};
use crate::units::ByteCount;

/// Files of one kind that are named; of more only the number is told.
const NAMED_MAX: usize = 20;

/// A line for each change, partitions first; nothing for no change.
pub(super) fn text(diff: &GenerationDiff) -> String {
    let mut text = String::new();
    for partition in &diff.partitions {
        describe_partition(&mut text, partition);
    }
    for image in &diff.images {
        describe_image(&mut text, image);
    }
    text
}

fn describe_partition(text: &mut String, partition: &PartitionDiff) {
    let label = &partition.label;
    let what = match (partition.before, partition.after) {
        (None, Some(after)) => format!("new, {}", ByteCount(after.len).rounded()),
        (Some(_), None) => "gone".to_owned(),
        (Some(before), Some(after)) if before != after => format!(
            "{} at {}, was {} at {}",
            ByteCount(after.len),
            after.offset,
            ByteCount(before.len),
            before.offset
        ),
        _ => String::new(),
    };
    let separator = if what.is_empty() { "" } else { ": " };
    line(text, format_args!("partition {label}{separator}{what}"));
    let files = &partition.files;
    list(text, '+', &files.added, |change| size(change.size_after));
    list(text, '-', &files.removed, |change| size(change.size_before));
    list(text, '>', &files.renamed, |change| {
        format!("  was {}", change.from.as_deref().unwrap_or_default())
    });
    list(text, '~', &files.changed, describe_change);
    if files.moved > 0 {
        let moved = files.moved;
        line(
            text,
            format_args!("  {moved} files lie elsewhere on the disk, otherwise as before"),
        );
    }
}

fn list(
    text: &mut String,
    sign: char,
    changes: &[FileChange],
    describe: impl Fn(&FileChange) -> String,
) {
    for change in changes.iter().take(NAMED_MAX) {
        // A name must not move the cursor.
        let path: String = change
            .path
            .chars()
            .map(|c| if c.is_control() { '?' } else { c })
            .collect();
        line(text, format_args!("  {sign} {path}{}", describe(change)));
    }
    let more = changes.len().saturating_sub(NAMED_MAX);
    if more > 0 {
        line(text, format_args!("  {sign} and {more} more"));
    }
}

fn size(size: Option<u64>) -> String {
    size.map_or_else(String::new, |size| format!("  {}", ByteCount(size)))
}

fn describe_change(change: &FileChange) -> String {
    let sizes = match (change.size_before, change.size_after) {
        (Some(before), Some(after)) if before != after => format!("  {before} → {after} bytes"),
        _ => String::new(),
    };
    let what = change.what.join(", ");
    let separator = if what.is_empty() { "" } else { "  " };
    format!("{sizes}{separator}{what}")
}

fn describe_image(text: &mut String, image: &ImageDiff) {
    let name = &image.name;
    let what = match (image.size_before, image.size_after) {
        _ if image.pending => "being prepared".to_owned(),
        (None, Some(after)) => format!("new, {}", ByteCount(after)),
        (Some(_), None) => "gone".to_owned(),
        (Some(before), Some(after)) if before != after => {
            format!("{before} → {after} bytes{}", describe_bytes(image))
        }
        (_, Some(after)) => format!("{}{}", ByteCount(after), describe_bytes(image)),
        (None, None) => String::new(),
    };
    line(text, format_args!("{name}: {what}"));
}

fn describe_bytes(image: &ImageDiff) -> String {
    let Some(ImageBytes {
        differing,
        not_compared,
        ..
    }) = image.bytes
    else {
        return String::new();
    };
    let mut text = format!(", {differing} differ");
    if not_compared > 0 {
        write!(text, ", {not_compared} more may").expect("writing to a string does not fail");
    }
    text
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    text.write_fmt(line)
        .and_then(|()| text.write_char('\n'))
        .expect("writing to a string does not fail");
}
