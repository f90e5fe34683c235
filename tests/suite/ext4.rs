//! File systems planned from real trees: e2fsck, the kernel and our own reader agree with the source.

pub(crate) mod build;
pub(crate) mod decoder;
mod directory;
mod extents;
mod faults;
mod fidelity;
mod internal;
mod kernel;
pub(crate) mod properties;
mod second_reader;
mod slack;
mod tools;
mod usage;
