//! Where every byte of an image is, and how to produce it.
//!
//! Invariant: nothing here knows FUSE; only [`host_file`] and `tree` touch the host's file systems.

pub mod cache;
pub mod data_map;
pub mod generation;
pub mod host_file;
pub mod source;
