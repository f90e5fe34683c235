//! The integration tests: one binary, one module per topic.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    reason = "a test that overflows or unwraps nothing fails, as it should"
)]

mod benches;
mod boot;
mod children;
mod cli_reference;
mod confined;
mod containers;
mod deflate;
mod deflate_mounted;
mod diff;
mod disk;
mod explain;
mod export;
mod ext4;
mod faults;
mod fuzz_corpus;
mod images;
mod kernel_log;
mod lab;
mod live;
mod loops;
mod machine;
mod mistakes;
mod mount;
mod mount_command;
mod mounted;
mod mounted_sources;
mod nfs_lab;
mod os;
mod ova;
mod planned;
mod qcow2;
mod replan;
mod robust;
mod seed;
mod served;
mod support;
mod swap;
mod tidy;
mod tree;
mod vagrant;
mod vdi;
mod vhd;
mod vhdx;
mod vmdk;
