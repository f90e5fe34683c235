//! File systems planned from real trees: e2fsck, the kernel and our own reader agree with the source.

pub(crate) mod build;
pub(crate) mod decoder;
mod directory;
mod extents;
mod faults;
mod fidelity;
mod huge;
mod internal;
mod kernel;
mod keys;
pub(crate) mod properties;
mod second_reader;
mod shapes;
mod slack;
mod superblock;
mod tools;
mod usage;
