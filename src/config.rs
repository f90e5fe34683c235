//! From the config as typed to a validated [`spec::Spec`].

pub mod spec;
