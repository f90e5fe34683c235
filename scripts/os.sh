#!/usr/bin/env bash
# A whole operating system, end to end: unpack a Debian (examples/os), mount it as a disk, boot that read-write, log in,
# shut it down, and check the file system that it left. Installs what is missing, builds, and cleans up after itself.
#
# Environment: MIRAGEFS (the program to show; without it, target/release/miragefs is built).
# Root, or sudo: the tree belongs to root, and so does whoever reads it.
set -euo pipefail
export LC_ALL=C
PATH=$PATH:/usr/sbin:/sbin
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/cargo-path.sh
. scripts/cargo-path.sh

config=examples/os/os.toml
program=${MIRAGEFS:-target/release/miragefs}
scratch=

die() {
    echo "os.sh: $*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# After a failure the program itself may be what is broken.
clean_up() {
    local status=$?
    trap - EXIT
    if [ -n "$scratch" ]; then
        if mountpoint -q "$scratch/mnt"; then
            as_root "$program" unmount "$scratch/mnt" || as_root umount --lazy "$scratch/mnt"
        fi
        rm -rf --one-file-system "$scratch"
    fi
    exit "$status"
}

trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

scripts/setup.sh os
if [ -z "${MIRAGEFS:-}" ]; then
    use_newest_cargo || die "no cargo that is new enough"
    cargo build --release --locked
fi
examples/os/prepare.sh
scratch=$(mktemp -d "${TMPDIR:-/tmp}/miragefs-os.XXXXXX")
mkdir "$scratch/mnt"
as_root "$program" check "$config"
as_root "$program" mount --allow-other "$config" "$scratch/mnt"
ls -ls "$scratch/mnt"
TMPDIR=$scratch examples/os/boot.sh "$scratch/mnt/disk.img" raw virtio
as_root "$program" unmount "$scratch/mnt"
if mountpoint -q "$scratch/mnt"; then die "still mounted"; fi
echo "miragefs: a Debian was unpacked, mounted, booted, written to and checked"
