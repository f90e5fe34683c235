//! The config that `miragefs init` writes.

/// A commented example: a teaching lab with a boot and a home partition.
pub const STARTER: &str = include_str!("starter.toml");
