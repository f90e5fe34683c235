//! The integration tests.

mod boot;
