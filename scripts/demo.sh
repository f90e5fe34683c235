#!/usr/bin/env bash
# The main job, end to end: mount the teaching lab, look at the three files with real tools, boot from one of them.
# Installs what is missing, builds, and cleans up after itself. Runs as root or as an ordinary user.
#
# Environment: MIRAGEFS (the program to show; without it, target/release/miragefs is built).
set -euo pipefail
export LC_ALL=C
PATH=$PATH:/usr/sbin:/sbin
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/cargo-path.sh
. scripts/cargo-path.sh

config=examples/lab/lab.toml
program=${MIRAGEFS:-target/release/miragefs}
scratch=
summary=()

die() {
    echo "demo.sh: $*" >&2
    exit 1
}

clean_up() {
    local status=$?
    trap - EXIT
    if [ -n "$scratch" ]; then
        unmount_by_any_means
        rm -rf --one-file-system "$scratch"
    fi
    if [ "$status" != 0 ]; then echo "demo.sh: failed in: ${current_step:-the beginning}" >&2; fi
    exit "$status"
}

# After a failure the program itself may be what is broken.
unmount_by_any_means() {
    local at
    for at in "$scratch/mnt" "$scratch/live"; do
        mountpoint -q "$at" || continue
        "$program" unmount "$at" || fusermount3 -u -z "$at" || umount --lazy "$at"
    done
}

# Run a step where a failure ends the demonstration, and remember how long it took.
step() { # NAME COMMAND...
    local start=$EPOCHREALTIME seconds
    current_step=$1
    printf '\n== %s\n' "$1"
    shift
    "$@"
    seconds=$(awk -v from="$start" -v to="$EPOCHREALTIME" 'BEGIN { printf "%7.2f s", to - from }')
    summary+=("$seconds  $current_step")
}

build() {
    [ -z "${MIRAGEFS:-}" ] || { echo "using $MIRAGEFS" && return 0; }
    use_newest_cargo || die "no cargo that is new enough"
    cargo build --release --locked
}

mount_lab() {
    mkdir "$scratch/mnt"
    "$program" mount "$config" "$scratch/mnt"
    mountpoint "$scratch/mnt"
}

# Size in column one is what is allocated: little, since nothing is stored.
list_files() {
    ls -ls "$scratch/mnt"
    local name
    for name in disk.img disk.vmdk boot.ova; do
        [ -s "$scratch/mnt/$name" ] || die "$name is missing or empty"
    done
}

# The partitions as "START SIZE", in sectors.
partitions() {
    sfdisk --dump "$scratch/mnt/disk.img" | sed -n 's/.*start= *\([0-9]*\), *size= *\([0-9]*\),.*/\1 \2/p'
}

# e2fsck's exit status alone does not tell that it had nothing to say.
check_file_systems() {
    local start size count=0 status report
    while read -r start size; do
        count=$((count + 1))
        echo "partition $count: sector $start, $size sectors"
        status=0
        report=$(e2fsck -fn "$scratch/mnt/disk.img?offset=$((start * 512))" 2>&1) || status=$?
        echo "$report"
        [ "$status" = 0 ] || die "partition $count: e2fsck's exit status is $status"
        if grep -vE '^(e2fsck [0-9].*|Pass [1-5]: .*|.*: [0-9]+/[0-9]+ files \([0-9.]+% non-contiguous\), [0-9]+/[0-9]+ blocks)$' \
            <<<"$report"; then
            die "partition $count: e2fsck said more than its passes and its summary"
        fi
    done < <(partitions)
    [ "$count" = 2 ] || die "disk.img: $count partitions, expected 2"
}

# "OFFSET SIZE" of a member's data: in a ustar archive it follows the member's header of one 512-byte block.
ova_member() { # SUFFIX
    tar --block-number --list --verbose --file "$scratch/mnt/boot.ova" |
        awk -v suffix="$1" 'substr($NF, length($NF) - length(suffix) + 1) == suffix { print ($2 + 1) * 512, $5 }'
}

ova_member_name() { # SUFFIX
    tar --list --file "$scratch/mnt/boot.ova" | grep -F "$1"
}

# The VMDK inside the OVA as qemu-img reads it in place.
vmdk_in_ova() {
    local offset size
    read -r offset size < <(ova_member .vmdk)
    printf 'json:{"driver": "vmdk", "file": {"driver": "raw", "offset": %s, "size": %s, "file": {"driver": "file", "filename": "%s"}}}' \
        "$offset" "$size" "$scratch/mnt/boot.ova"
}

check_disks() {
    qemu-img check -f vmdk "$scratch/mnt/disk.vmdk"
    qemu-img compare -f raw -F vmdk "$scratch/mnt/disk.img" "$scratch/mnt/disk.vmdk"
    echo "and the VMDK inside boot.ova, read in place:"
    qemu-img compare -f raw "$scratch/mnt/disk.img" "$(vmdk_in_ova)"
}

# Every line of the manifest is `SHA256(name)= digest`.
check_appliance() {
    local name digest actual lines=0
    tar --list --verbose --file "$scratch/mnt/boot.ova"
    while IFS='()=' read -r _ name _ digest; do
        digest=${digest# }
        actual=$(tar --extract --to-stdout --file "$scratch/mnt/boot.ova" "$name" | sha256sum | cut -d ' ' -f 1)
        [ "$actual" = "$digest" ] || die "boot.ova: $name: sha256 is $actual, the manifest says $digest"
        echo "$name: sha256 as in the manifest"
        lines=$((lines + 1))
    done < <(tar --extract --to-stdout --file "$scratch/mnt/boot.ova" "$(ova_member_name .mf)")
    [ "$lines" = 2 ] || die "boot.ova: the manifest has $lines lines, expected 2"
}

# The machine gets the disk controller and the network card that the OVF names.
boot() {
    local ovf controller
    ovf=$(tar --extract --to-stdout --file "$scratch/mnt/boot.ova" "$(ova_member_name .ovf)")
    case $ovf in
    *'ResourceSubType>VirtualSCSI<'*) controller=pvscsi ;;
    *) die "the OVF does not name VirtualSCSI as the disk controller" ;;
    esac
    [[ ${ovf,,} == *'resourcesubtype>vmxnet3<'* ]] || die "the OVF does not name VmxNet3 as the network card"
    BOOT_NIC=vmxnet3 TMPDIR=$scratch scripts/boot-vm.sh "$scratch/mnt/disk.vmdk" vmdk "$controller"
}

# A config that includes the example is edited under its own mount; the OVF follows, and the status tells.
edit() {
    mkdir "$scratch/live"
    printf 'include = ["%s"]\n' "$(realpath "$config")" >"$scratch/live.toml"
    "$program" mount "$scratch/live.toml" "$scratch/live"
    printf '[vm]\nmemory = "3GiB"\n' >>"$scratch/live.toml"
    "$program" reload "$scratch/live"
    tar --extract --to-stdout --wildcards --file "$scratch/live/boot.ova" '*.ovf' | grep -F '>3072<' ||
        die "boot.ova: the OVF does not have the memory that the config has now"
    "$program" status "$scratch/live"
    "$program" unmount "$scratch/live"
    rmdir "$scratch/live"
}

unmount() {
    "$program" unmount "$scratch/mnt"
    if mountpoint -q "$scratch/mnt"; then die "still mounted"; fi
    rmdir "$scratch/mnt"
}

trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

step "install what is missing" scripts/setup.sh demo
step "build" build
step "prepare examples/lab" examples/lab/prepare.sh
scratch=$(mktemp -d "${TMPDIR:-/tmp}/miragefs-demo.XXXXXX")
step "mount" mount_lab
step "list the three files" list_files
step "e2fsck on both partitions" check_file_systems
step "qemu-img: the three disks are one" check_disks
step "tar and the manifest of boot.ova" check_appliance
step "boot from disk.vmdk: pvscsi, vmxnet3" boot
step "edit the config under a mount" edit
step "unmount" unmount

printf '\n== summary\n'
printf '%s\n' "${summary[@]}"
echo "miragefs: the lab was mounted, checked, booted, edited and unmounted"
