//! Images as files of a FUSE mount.
//!
//! ```text
//! kernel ── fuser ── adapter ── view ── synth's images
//!                    errno      (no FUSE)
//! connection, mount, mountpoint: where it appears, how it goes away
//! pending: images that appear later; status: what the mount tells of itself
//! ```
//!
//! Invariant: only `adapter`, `errno` and [`mount`] mention fuser; [`view`] is plain Rust, testable without a kernel.

mod adapter;
mod connection;
mod errno;
pub mod mount;
pub mod mountpoint;
pub mod pending;
mod status;
pub mod view;
