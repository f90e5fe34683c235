//! Images as files of a FUSE mount.
//!
//! ```text
//! kernel ── fuser ── adapter ── view ── synth's images
//!                    errno      (no FUSE)
//! lanes: who does the reads, so that a worker is left for the rest
//! connection, mount, mountpoint: where it appears, how it goes away
//! confine, unmounter: what the daemon gives up, and the process that keeps what is needed at the end
//! shelf, control, status: what one config shows, and what the mount tells of itself
//! watch ── settle ── reload ── pending: from a change to the next edition; keepers: one for each config
//! ```
//!
//! Invariant: only `adapter`, `errno` and [`mount`] mention fuser; [`view`] is plain Rust, testable without a kernel.

mod adapter;
pub mod confine;
mod connection;
mod control;
pub mod edition;
mod errno;
pub mod keepers;
mod lanes;
pub mod log_tail;
pub mod mount;
pub mod mountpoint;
pub mod pending;
pub mod reload;
mod settle;
pub mod shelf;
mod status;
pub mod unmounter;
pub mod view;
pub mod watch;
