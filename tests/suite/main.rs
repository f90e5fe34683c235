//! The integration tests: one binary, one module per topic.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    reason = "a test that overflows or unwraps nothing fails, as it should"
)]

mod boot;
mod cli_reference;
mod explain;
mod export;
mod disk;
mod ext4;
mod loops;
mod mount;
mod mount_command;
mod mounted;
mod ova;
mod planned;
mod support;
mod tidy;
mod tree;
mod vmdk;
