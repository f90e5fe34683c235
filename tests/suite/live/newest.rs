//! `newest`: a mount that takes what is newest when something newer comes.

use std::fs;

use super::{Live, config};
use crate::mounted::{require_fuse, wait_until};

const COPIES: &str = "copy = [{ from = \"boot/vmlinuz-*\", newest = true, to = \"/vmlinuz\" }, { from = \"boot/initrd.img-*\", newest = true, to = \"/initrd.img\" },";

fn write(live: &Live, name: &str, text: &str) {
    fs::write(live.workspace().path().join("boot").join(name), text).unwrap();
}

fn has(live: &Live, text: &str) -> bool {
    let image = fs::read(live.file("disk.img")).unwrap();
    image
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

#[test]
fn a_newer_kernel_shows_by_itself_when_its_initrd_is_there() {
    if !require_fuse() {
        return;
    }
    let live = Live::new(&config("first"));
    let boot = live.workspace().path().join("boot");
    fs::create_dir(&boot).unwrap();
    write(&live, "vmlinuz-6.1.0-9-amd64", "kernel nine");
    write(&live, "initrd.img-6.1.0-9-amd64", "initrd nine");
    let newest = config("first").replace("copy = [", COPIES);
    fs::write(live.workspace().config(), &newest).unwrap();
    live.wait_for(2);
    assert!(has(&live, "kernel nine") && has(&live, "initrd nine"));

    // As dpkg and update-initramfs do it: the kernel first, both under names of their own until they are whole.
    write(&live, "vmlinuz-6.1.0-10-amd64.dpkg-new", "kernel ten");
    let from = boot.join("vmlinuz-6.1.0-10-amd64.dpkg-new");
    fs::rename(from, boot.join("vmlinuz-6.1.0-10-amd64")).unwrap();
    let lacks = "but no `initrd.img-6.1.0-10-amd64`; 6.1.0-9-amd64 is taken";
    wait_until("the lack of an initrd is told", || {
        live.status()["warnings"].to_string().contains(lacks)
    });
    assert!(has(&live, "kernel nine") && !has(&live, "kernel ten"));
    write(&live, "initrd.img-6.1.0-10-amd64.new", "initrd ten");
    let from = boot.join("initrd.img-6.1.0-10-amd64.new");
    fs::rename(from, boot.join("initrd.img-6.1.0-10-amd64")).unwrap();
    wait_until("the new kernel", || has(&live, "kernel ten"));
    assert!(has(&live, "initrd ten") && !has(&live, "initrd nine"));

    // A purge of the new one brings the old one back, and one of all changes nothing and is told.
    fs::remove_file(boot.join("initrd.img-6.1.0-10-amd64")).unwrap();
    fs::remove_file(boot.join("vmlinuz-6.1.0-10-amd64")).unwrap();
    wait_until("the old kernel", || has(&live, "kernel nine"));
    fs::remove_file(boot.join("initrd.img-6.1.0-9-amd64")).unwrap();
    wait_until("a mistake", || live.status()["state"] == "broken");
    let status = live.status().to_string();
    assert!(status.contains("is called `initrd.img-*`"), "{status}");
    write(&live, "initrd.img-6.1.0-9-amd64", "initrd 9, again");
    wait_until("an initrd again", || has(&live, "initrd 9, again"));
}
