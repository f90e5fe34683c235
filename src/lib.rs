//! Virtual machine images that exist only while somebody reads them.
//!
//! ```text
//! config text ──parse──▶ Spec ──plan──▶ Generation { images } ──open──▶ handle ──read──▶ bytes
//!                  (validated)   │        (immutable)                     ▲
//! source trees ──scan (metadata only)──▶ SourceTree                       │ fs::view ◀── fs::adapter ◀── kernel (FUSE)
//!                                                                         │ export (no FUSE), explain, map
//! ```
//!
//! One way, no back and forth: nothing below knows who reads it. The arrows, which a test enforces:
//!
//! ```text
//! main → cli → { config, fs, export, map, synth, units }     fs, export, map → { synth, units }
//! synth → { formats, config::spec, units }              config, formats → units
//! ```
//!
//! - [`formats`] encodes on-disk structures and does no I/O.
//! - [`synth`] knows where every byte of an image is and how to produce it; it knows no FUSE.
//! - [`fs`] shows images as files, and renews them when config or sources change; it knows no on-disk format.
//! - [`map`] draws a disk.

pub mod cli;
pub mod config;
pub mod export;
pub mod formats;
pub mod fs;
pub mod map;
mod sync;
pub mod synth;
pub mod units;
