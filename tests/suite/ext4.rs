//! File systems planned from real trees: e2fsck, the kernel and our own reader agree with the source.

mod attributes;
pub(crate) mod build;
mod churn;
mod crash;
pub(crate) mod decoder;
mod directory;
mod exercise;
mod extents;
mod faults;
mod fidelity;
mod huge;
mod internal;
mod kernel;
mod keys;
pub(crate) mod properties;
mod resize;
mod rich;
mod second_reader;
mod shapes;
mod slack;
mod soak;
mod stressors;
mod superblock;
mod tools;
mod usage;
mod watched;
