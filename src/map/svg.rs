//! The picture: `layout.svg`.

use std::fmt::Write;

use super::draw::{Px, escape, percent};
use super::layout::{GRAIN_LEN, Layout, PartitionLayout, Region, RegionKind, Share};
use super::tree::Branch;
use crate::units::{ByteCount, to_u64};

/// Width of the picture and of its bars, in pixels.
const WIDTH: u64 = 1200;
const MARGIN: u64 = 20;
const BAR: Px = Px::whole(1160);
/// What is narrower is drawn together with its neighbours, or as the directory that it is in.
const NARROWEST: Px = Px::whole(1);
const NARROWEST_BOX: Px = Px::whole(2);
/// Rows of directories.
const ROWS_MAX: u64 = 8;
const ROW: u64 = 18;
/// Ticks of block groups, at most.
const TICKS_MAX: usize = 200;
/// Pixels of a character, about.
const CHARACTER: u64 = 7;

/// The disk of `layout`; `generation` is its number in a mount.
#[must_use]
pub fn svg(layout: &Layout, generation: Option<u64>) -> String {
    let mut picture = Picture::default();
    picture.head(layout, generation);
    picture.disk(layout);
    for partition in &layout.partitions {
        picture.partition(partition);
    }
    picture.grains(layout);
    picture.finish(layout)
}

/// A picture that grows downwards.
#[derive(Default)]
struct Picture {
    body: String,
    /// Where the next thing goes, in pixels.
    y: u64,
}

/// Where something is drawn.
#[derive(Clone, Copy)]
struct Place {
    x: Px,
    y: u64,
    width: Px,
    height: Px,
}

impl Picture {
    fn push(&mut self, arguments: std::fmt::Arguments<'_>) {
        self.body
            .write_fmt(arguments)
            .expect("writing to a string does not fail");
    }

    fn text(&mut self, class: &str, x: u64, y: u64, text: &str) {
        let text = escape(text);
        self.push(format_args!(
            "<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{text}</text>\n"
        ));
    }

    /// A rectangle that says what it is when it is pointed at.
    fn rect(&mut self, class: &str, place: Place, title: &str) {
        let Place {
            x,
            y,
            width,
            height,
        } = place;
        let title = escape(title);
        self.push(format_args!(
            "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"><title>{title}</title></rect>\n"
        ));
    }

    fn head(&mut self, layout: &Layout, generation: Option<u64>) {
        let number = generation.map_or_else(String::new, |number| format!(", generation {number}"));
        let size = ByteCount(layout.disk_len);
        self.text(
            "title",
            MARGIN,
            32,
            &format!("{}: {size}{number}", layout.name),
        );
        self.y = 48;
    }

    /// The bar of the whole disk.
    fn disk(&mut self, layout: &Layout) {
        let y = self.y;
        for region in &layout.regions {
            let place = self.on_bar(region.offset, region.len, layout.disk_len, 40);
            let (class, title) = describe_region(region, layout);
            self.rect(class, place, &title);
            if let Some(label) = &region.label {
                self.label(label, place, "inside");
            }
        }
        self.y = y.saturating_add(40);
        self.ruler(layout.disk_len);
    }

    /// A stretch of a bar at the present height.
    fn on_bar(&self, offset: u64, len: u64, whole: u64, height: u64) -> Place {
        let start = BAR.share(offset, whole);
        let end = BAR.share(offset.saturating_add(len), whole);
        Place {
            x: Px::whole(MARGIN).plus(start),
            y: self.y,
            // What is too small to see is shown all the same; its title has the numbers.
            width: end.minus(start).max(NARROWEST),
            height: Px::whole(height),
        }
    }

    /// A name in a box, as much of it as fits.
    fn label(&mut self, name: &str, place: Place, class: &str) {
        let room = place.width.0.div_euclid(100).saturating_sub(8);
        let characters = room.checked_div(CHARACTER).unwrap_or(0);
        if characters < 3 {
            return;
        }
        let count = to_u64(name.chars().count());
        let shown: String = if count > characters {
            let kept = crate::units::to_usize(characters.saturating_sub(1));
            name.chars().take(kept).chain(['…']).collect()
        } else {
            name.to_owned()
        };
        let x = place.x.0.div_euclid(100).saturating_add(4);
        let middle = place.height.0.div_euclid(200).saturating_add(4);
        self.text(class, x, place.y.saturating_add(middle), &shown);
    }

    /// Offsets below a bar.
    fn ruler(&mut self, whole: u64) {
        let y = self.y.saturating_add(14);
        for quarter in 0..=4 {
            let offset = whole.checked_div(4).unwrap_or(0).saturating_mul(quarter);
            let x = MARGIN.saturating_add(290_u64.saturating_mul(quarter));
            let anchor = match quarter {
                0 => "start",
                4 => "end",
                _ => "middle",
            };
            let text = escape(&ByteCount(offset).rounded());
            self.push(format_args!(
                "<text class=\"soft\" text-anchor=\"{anchor}\" x=\"{x}\" y=\"{y}\">{text}</text>\n"
            ));
        }
        self.y = y.saturating_add(16);
    }

    fn partition(&mut self, partition: &PartitionLayout) {
        let y = self.y.saturating_add(20);
        self.text("heading", MARGIN, y, &heading(partition));
        self.y = y.saturating_add(10);
        if partition.runs.is_empty() {
            let class = if partition.filesystem == "swap" {
                "reserved"
            } else {
                "free"
            };
            let place = self.on_bar(0, 1, 1, 24);
            let title = format!("{}: {}", partition.label, ByteCount(partition.len));
            self.rect(class, place, &title);
            self.y = self.y.saturating_add(34);
            return;
        }
        self.blocks(partition);
        self.groups(partition);
        if let Some(root) = &partition.root {
            self.files(partition, root);
        }
        self.legend(partition);
    }

    /// What the blocks hold, to scale.
    fn blocks(&mut self, partition: &PartitionLayout) {
        let mut cluster: Vec<(Share, u64, u64)> = Vec::new();
        for run in &partition.runs {
            let width = BAR.share(run.2, partition.blocks);
            if width >= NARROWEST {
                self.cluster(partition, &std::mem::take(&mut cluster));
                self.cluster(partition, &[*run]);
                continue;
            }
            cluster.push(*run);
            let blocks = cluster.iter().map(|(_, _, count)| *count).sum();
            if BAR.share(blocks, partition.blocks) >= NARROWEST {
                self.cluster(partition, &std::mem::take(&mut cluster));
            }
        }
        self.cluster(partition, &cluster);
        self.y = self.y.saturating_add(36);
    }

    /// Neighbouring runs as one stretch, what they hold on top of each other.
    fn cluster(&mut self, partition: &PartitionLayout, runs: &[(Share, u64, u64)]) {
        let (Some((_, first, _)), Some((_, last, count))) = (runs.first(), runs.last()) else {
            return;
        };
        let end = last.saturating_add(*count);
        let blocks = end.saturating_sub(*first);
        let place = self.on_bar(*first, blocks, partition.blocks, 36);
        let mut from = 0;
        for share in Share::ALL {
            let of = runs.iter().filter(|(kind, ..)| *kind == share);
            let held: u64 = of.map(|(_, _, count)| *count).sum();
            if held == 0 {
                continue;
            }
            let top = Px::whole(36).share(from, blocks);
            from = from.saturating_add(held);
            let bottom = Px::whole(36).share(from, blocks);
            let bytes = held.saturating_mul(partition.block_size);
            let title = format!(
                "{}: {}, {held} blocks from block {first} on, at {} on the disk",
                share.title(),
                ByteCount(bytes),
                partition.offset_of(*first)
            );
            let Place { x, y, width, .. } = place;
            let (y, height) = (Px::whole(y).plus(top), bottom.minus(top));
            let (class, title) = (share.class(), escape(&title));
            self.push(format_args!(
                "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"><title>{title}</title></rect>\n"
            ));
        }
    }

    /// A tick where a block group begins; of many groups only some.
    fn groups(&mut self, partition: &PartitionLayout) {
        let step = partition.groups.len().div_ceil(TICKS_MAX).max(1);
        let mut path = String::new();
        for block in partition.groups.iter().step_by(step) {
            let x = Px::whole(MARGIN).plus(BAR.share(*block, partition.blocks));
            let y = self.y;
            write!(path, "M{x} {y}v6").expect("writing to a string does not fail");
        }
        let count = partition.groups.len();
        let every = if step > 1 {
            format!(", a tick for every {step}")
        } else {
            String::new()
        };
        self.push(format_args!("<path class=\"tick\" d=\"{path}\"/>\n"));
        self.y = self.y.saturating_add(18);
        let plural = if count == 1 { "" } else { "s" };
        let (text, y) = (format!("{count} block group{plural}{every}"), self.y);
        self.text("soft", MARGIN, y, &text);
        self.y = y.saturating_add(8);
    }

    /// Directories and files above the blocks that they take, level by level.
    fn files(&mut self, partition: &PartitionLayout, root: &Branch) {
        let mut level = vec![(String::new(), root)];
        let mut row = 0;
        while !level.is_empty() && row < ROWS_MAX {
            let mut next = Vec::new();
            let drawn = self.body.len();
            for (path, branch) in level {
                self.row(partition, &path, branch, &mut next);
            }
            if self.body.len() == drawn {
                break;
            }
            self.y = self.y.saturating_add(ROW);
            row = row.saturating_add(1);
            level = next;
        }
        self.y = self.y.saturating_add(4);
    }

    /// What is directly in a directory.
    fn row<'a>(
        &mut self,
        partition: &PartitionLayout,
        path: &str,
        branch: &'a Branch,
        next: &mut Vec<(String, &'a Branch)>,
    ) {
        for below in &branch.branches {
            let path = format!("{path}/{}", below.name);
            let (start, end) = below.blocks;
            if BAR.share(end.saturating_sub(start), partition.blocks) < NARROWEST_BOX {
                continue;
            }
            let place = self.on_bar(start, end.saturating_sub(start), partition.blocks, ROW - 2);
            let title = format!(
                "{path}/: {} in {} files, blocks {start} to {}, at {} on the disk",
                ByteCount(below.size),
                below.files,
                end.saturating_sub(1),
                partition.offset_of(start)
            );
            self.rect("branch", place, &title);
            self.label(&format!("{}/", below.name), place, "inbranch");
            next.push((path, below));
        }
        for leaf in branch.leaves.iter().filter(|leaf| !leaf.is_further_name) {
            for (index, (start, len)) in leaf.extents.iter().enumerate() {
                if BAR.share(*len, partition.blocks) < NARROWEST_BOX {
                    continue;
                }
                let place = self.on_bar(*start, *len, partition.blocks, ROW - 2);
                let extent = if leaf.extents.len() > 1 {
                    let count = leaf.extents.len();
                    format!(", extent {} of {count}", index.saturating_add(1))
                } else {
                    String::new()
                };
                let title = format!(
                    "{path}/{}: {}{extent}, blocks {start} to {}, at {} on the disk",
                    leaf.name,
                    ByteCount(leaf.size),
                    start.saturating_add(*len).saturating_sub(1),
                    partition.offset_of(*start)
                );
                self.rect("leaf", place, &title);
                if index == 0 {
                    self.label(&leaf.name, place, "inside");
                }
            }
        }
    }

    fn legend(&mut self, partition: &PartitionLayout) {
        let mut x = MARGIN;
        let mut y = self.y.saturating_add(12);
        for (share, bytes) in &partition.shares {
            let part = percent(*bytes, partition.len);
            let rounded = ByteCount(*bytes).rounded();
            let text = format!("{} {rounded} ({part})", share.title());
            let width = to_u64(text.chars().count())
                .saturating_mul(CHARACTER)
                .saturating_add(36);
            if x.saturating_add(width) > WIDTH {
                x = MARGIN;
                y = y.saturating_add(18);
            }
            let place = Place {
                x: Px::whole(x),
                y: y.saturating_sub(10),
                width: Px::whole(12),
                height: Px::whole(12),
            };
            let title = format!("{}: {}", share.title(), ByteCount(*bytes));
            self.rect(&format!("swatch {}", share.class()), place, &title);
            self.text("small", x.saturating_add(17), y, &text);
            x = x.saturating_add(width);
        }
        self.y = y.saturating_add(10);
    }

    /// The grains that a sparse VMDK stores.
    fn grains(&mut self, layout: &Layout) {
        let count = layout.disk_len.div_ceil(GRAIN_LEN);
        let stored: u64 = layout.grains.iter().map(|(_, count)| *count).sum();
        let y = self.y.saturating_add(24);
        let text = format!(
            "Grains of the VMDK: {stored} of {count} are stored ({})",
            percent(stored, count)
        );
        self.text("heading", MARGIN, y, &text);
        self.y = y.saturating_add(10);
        let whole = self.on_bar(0, 1, 1, 20);
        self.rect("free", whole, "grains that are not stored: zeros");
        let mut runs = layout.grains.iter().peekable();
        while let Some((first, len)) = runs.next().copied() {
            let (mut end, mut held) = (first.saturating_add(len), len);
            // Neighbours within a pixel are one stretch.
            while let Some((next, len)) = runs.peek()
                && BAR.share(next.saturating_sub(first), count) < NARROWEST
            {
                end = next.saturating_add(*len);
                held = held.saturating_add(*len);
                runs.next();
            }
            let place = self.on_bar(first, end.saturating_sub(first), count, 20);
            let title = format!(
                "{held} grains stored from grain {first} on: {} at {} on the disk",
                ByteCount(held.saturating_mul(GRAIN_LEN)),
                first.saturating_mul(GRAIN_LEN)
            );
            self.rect("files", place, &title);
        }
        self.y = self.y.saturating_add(20);
        self.ruler(layout.disk_len);
    }

    fn finish(self, layout: &Layout) -> String {
        let height = self.y.saturating_add(MARGIN);
        let name = escape(&layout.name);
        let size = escape(&ByteCount(layout.disk_len).to_string());
        let (style, body) = (include_str!("style.css"), self.body);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" role=\"img\" aria-labelledby=\"t d\">\n\
             <title id=\"t\">The disk of {name}</title>\n\
             <desc id=\"d\">{size}: partitions, blocks, files and grains to scale. Each part says what it is when it is pointed at.</desc>\n\
             <style>\n{style}{SVG_STYLE}</style>\n\
             <rect class=\"paper\" width=\"{WIDTH}\" height=\"{height}\"/>\n{body}</svg>\n"
        )
    }
}

const SVG_STYLE: &str = "\
text { font: 12px system-ui, sans-serif; fill: var(--ink); }
.title { font-size: 20px; font-weight: 600; } .heading { font-size: 14px; font-weight: 600; }
.soft { fill: var(--soft); font-size: 11px; } .small { font-size: 11.5px; }
.paper { fill: var(--paper); } .gap { fill: var(--empty); } .partition { fill: var(--branch); }
.partition, .gap { stroke: var(--line); stroke-width: 0.6; }
.branch { fill: var(--branch); stroke: var(--line); stroke-width: 0.5; } .inbranch { pointer-events: none; font-size: 11px; }
.leaf { fill: var(--leaf); stroke: var(--paper); stroke-width: 0.5; }
.leaf + .inside { fill: var(--onleaf); font-size: 11px; } .inside { pointer-events: none; }
.swatch { stroke: var(--line); stroke-width: 0.6; }
.tick { stroke: var(--line); stroke-width: 1; fill: none; }
";

impl PartitionLayout {
    /// Where a block lies on the disk, in bytes.
    fn offset_of(&self, block: u64) -> u64 {
        self.offset
            .saturating_add(block.saturating_mul(self.block_size))
    }
}

fn heading(partition: &PartitionLayout) -> String {
    let active = if partition.active { ", active" } else { "" };
    format!(
        "{}: {}, {} at {}, type {:#04x}{active}",
        partition.label,
        partition.filesystem,
        ByteCount(partition.len),
        ByteCount(partition.offset).rounded(),
        partition.type_code
    )
}

fn describe_region(region: &Region, layout: &Layout) -> (&'static str, String) {
    let size = ByteCount(region.len);
    let share = percent(region.len, layout.disk_len);
    let at = region.offset;
    match region.kind {
        RegionKind::BootSector => (
            "groups",
            format!("boot sector: {size}, wider here than to scale"),
        ),
        RegionKind::Gap => ("gap", format!("unused: {size} at {at} ({share})")),
        RegionKind::Partition => {
            let label = region.label.as_deref().unwrap_or_default();
            (
                "partition",
                format!("partition {label}: {size} at {at} ({share})"),
            )
        }
    }
}
