//! The integration tests.

mod mount;
mod mounted;
