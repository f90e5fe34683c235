//! The integration tests.

mod ova;
mod support;
mod vmdk;
