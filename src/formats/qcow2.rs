//! QEMU's copy-on-write format, version 3, the subset that miragefs writes: no backing file, no compression, no snapshots.
//!
//! Source: qemu, `docs/interop/qcow2.rst`; limits from `block/qcow2.h`. All integers are big-endian.

pub mod header;
pub mod refcounts;
pub mod tables;

/// `cluster_bits`: clusters of 64 KiB, as qemu writes them.
pub const CLUSTER_BITS: u32 = 16;
/// Bytes of a cluster, the unit that everything in the file is allocated in.
pub const CLUSTER_LEN: u64 = 1 << CLUSTER_BITS;
