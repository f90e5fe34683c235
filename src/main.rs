//! Parses the command line, runs it, prints errors.

fn main() {}
