//! Where every byte of an image is, and how to produce it.
//!
//! Invariant: nothing here knows FUSE; only [`host_file`], [`index_store`] and [`tree`] touch the host's file
//! systems.

pub mod archive;
pub mod boot;
pub mod cache;
mod container;
pub mod data_map;
pub mod diff;
mod digest;
pub mod disk;
pub mod ext4;
pub mod fingerprint;
pub mod generation;
pub mod grain_index;
pub mod host_file;
pub mod identifiers;
mod images;
pub mod index_store;
pub mod machine;
mod manifest;
pub mod memory;
pub mod mistakes;
pub mod names;
pub mod ova;
pub mod packed_time;
pub mod partition;
mod partitions;
pub mod pending;
pub mod plan_error;
pub mod qcow2;
mod region;
pub mod segments;
pub mod source;
pub mod syslinux_config;
pub mod tree;
pub mod unit_map;
pub mod vagrant;
pub mod vdi;
pub mod vhd;
pub mod vhdx;
pub mod vmdk;
