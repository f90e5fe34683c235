//! How on-disk structures are encoded: no file, no path, no clock, no I/O.

pub mod ovf;
pub mod tar;
pub mod vmdk;
