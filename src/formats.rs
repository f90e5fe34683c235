//! How on-disk structures are encoded.
//!
//! Invariant: pure functions over bytes and numbers; no file, no path, no clock, no I/O, no other layer but
//! [`crate::units`].

pub mod ext4;
pub mod mbr;
pub mod mtree;
pub mod ovf;
pub mod qcow2;
pub mod swap;
pub mod syslinux;
pub mod tar;
pub mod vagrant;
pub mod vdi;
pub mod vhd;
pub mod vhdx;
pub mod vmdk;
pub mod vmx;
