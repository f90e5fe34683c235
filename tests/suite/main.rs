//! The integration tests.

mod mount;
mod mount_command;
mod mounted;
