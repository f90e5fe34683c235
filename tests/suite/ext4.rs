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
mod internal;
mod kernel;
pub(crate) mod properties;
mod resize;
mod rich;
mod second_reader;
mod soak;
mod stressors;
mod tools;
mod usage;
mod watched;
