#!/usr/bin/env bash
# Make the root file system that the lab's machines have over NFS, and renew its kernel.
#
#   make-root.sh debian DIRECTORY      Debian 12 with the generic kernel, by mmdebstrap; 700 MiB, a minute or more
#   make-root.sh small DIRECTORY       busybox and the kernel for virtual machines; seconds, for tests
#   make-root.sh upgrade DIRECTORY     install a newer kernel, as apt does it in the root; a small root gets the same
#                                      kernel once more, under the next version
#   make-root.sh rewind DIRECTORY      remove all kernels but the oldest, so that there is something to upgrade
#
# Root, or sudo: the tree belongs to root. A DIRECTORY with a root in it is left as it is.
#
# Environment: LAB_KERNEL, the package of the Debian root's first kernel (linux-image-amd64); `previous` is the newest but
# one that apt knows.
set -euo pipefail
umask 022
export LC_ALL=C

lab=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
project=$(cd "$lab/../.." && pwd)
suite=bookworm
# zstd packs the initrd; update-initramfs would take gzip without it, which unpacks more slowly.
packages=(systemd-sysv udev initramfs-tools zstd busybox iproute2 kmod ifupdown isc-dhcp-client)
# For the card and the disk that small.toml names, DHCP, NFS and the overlay; ext4 is built into this kernel.
modules=(vmxnet3 vmw_pvscsi sd_mod af_packet nfsv3 nfs overlay)
# shellcheck source=scripts/debian-archive.sh
. "$project/scripts/debian-archive.sh"

usage() {
    sed -n '4,8s/^# *//p' "${BASH_SOURCE[0]}" >&2
    exit 2
}

die() {
    echo "make-root.sh: $*" >&2
    exit 1
}

# Versions whose kernel is in the root's /boot, oldest first.
versions() {
    find "$root/boot" -maxdepth 1 -name 'vmlinuz-*' -printf '%f\n' | sed 's/^vmlinuz-//' | sort -V
}

# What both roots have: the overlay, /home from the second partition, a card that DHCP sets up, and the check.
configure() { # DIRECTORY
    install -D -m 0755 "$lab/guest/lab-check" "$1/usr/local/sbin/lab-check"
    echo lab-client >"$1/etc/hostname"
    echo "LABEL=home /home ext4 defaults 0 2" >"$1/etc/fstab"
}

# Under another name until it is whole, as dpkg and update-initramfs do it.
add_small_kernel() { # DIRECTORY VERSION
    local unpacked boot=$1/boot options=() module image
    unpacked=$("$project/scripts/fetch-kernel.sh" "$project/examples/lab/generated/cache")
    for image in "$unpacked"/boot/vmlinuz-*; do cp "$image" "$boot/vmlinuz-$2.new"; done
    mv "$boot/vmlinuz-$2.new" "$boot/vmlinuz-$2"
    for module in "${modules[@]}"; do options+=(--module "$module"); done
    sed "s/@VERSION@/$2/" "$lab/guest/initrd-init" >"$boot/init.new"
    python3 "$project/scripts/mkinitramfs.py" --init "$boot/init.new" --modules "$unpacked"/lib/modules/* \
        "${options[@]}" "$boot/initrd.img-$2.new"
    rm "$boot/init.new"
    mv "$boot/initrd.img-$2.new" "$boot/initrd.img-$2"
}

make_small() { # DIRECTORY
    local applet unpacked
    mkdir -p "$1"/{bin,boot,dev,etc,home,proc,root,run,sbin,sys,tmp}
    cp /bin/busybox "$1/bin/busybox"
    # Not all of them are in the PATH of every shell; one directory will do.
    while read -r applet; do ln -s busybox "$1/bin/$applet"; done < <(busybox --list | grep -vx busybox)
    install -m 0755 "$lab/guest/root-init" "$1/sbin/init"
    configure "$1"
    unpacked=$("$project/scripts/fetch-kernel.sh" "$project/examples/lab/generated/cache")
    unpacked=$(echo "$unpacked"/lib/modules/*)
    add_small_kernel "$1" "${unpacked##*/}"
}

# The newest kernel package but one, as apt of this machine knows it.
previous_kernel() {
    apt-cache search --names-only '^linux-image-6\.1\.0-[0-9]+-amd64$' | cut -d ' ' -f 1 | sort -V | tail -n 2 | head -n 1
}

# The kernel comes last, so that its initrd is made with all that configure-debian writes.
make_debian() { # DIRECTORY
    local kernel=${LAB_KERNEL:-linux-image-amd64} arguments=() sources=() include
    [ "$kernel" != previous ] || kernel=$(previous_kernel)
    [ -n "$kernel" ] || die "apt knows no linux-image-6.1.0-*-amd64 (Debian 12's main archive, amd64)"
    include=$(IFS=, && echo "${packages[*]}")
    mapfile -t arguments < <(archive_options)
    sources_of_this_machine "$suite" >"$1.list"
    [ ! -s "$1.list" ] || sources=("$1.list")
    mmdebstrap --mode=root --format=directory --variant=minbase "--include=$include" "${arguments[@]}" \
        --customize-hook="$lab/guest/configure-debian \"\$1\" $lab" \
        --customize-hook="chroot \"\$1\" apt-get -qq install -y $kernel" \
        "$suite" "$1" "${sources[@]}"
    rm -f "$1.list"
    configure "$1"
}

# As an administrator does it: with the host's /dev, /proc and /sys bound into the root for the time.
in_root() { # COMMAND...
    local at
    trap unbind EXIT
    for at in dev proc sys; do mount --bind "/$at" "$root/$at"; done
    chroot "$root" "$@"
    unbind
}

unbind() {
    local at
    for at in dev proc sys; do
        ! mountpoint -q "$root/$at" || umount "$root/$at"
    done
}

upgrade() {
    local newest
    newest=$(versions | tail -n 1)
    if [ -e "$root/usr/bin/apt-get" ]; then
        in_root apt-get -qq update
        in_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 install -y linux-image-amd64
    else
        # Nothing to install, but what apt needs in a root is bound into it for a moment all the same.
        in_root true
        # 6.1.0-56-cloud-amd64 becomes 6.1.0-57-cloud-amd64.
        add_small_kernel "$root" "$(awk -F - -v OFS=- '{ $2++; print }' <<<"$newest")"
    fi
    [ "$(versions | tail -n 1)" != "$newest" ] || die "$root: $newest is the newest kernel already"
}

rewind() {
    local oldest version
    oldest=$(versions | head -n 1)
    versions | tail -n +2 | while read -r version; do
        if [ -e "$root/usr/bin/apt-get" ]; then
            in_root env DEBIAN_FRONTEND=noninteractive \
                apt-get -qq -o Dpkg::Use-Pty=0 purge -y linux-image-amd64 "linux-image-$version" </dev/null
        else
            rm -f "$root/boot/vmlinuz-$version" "$root/boot/initrd.img-$version"
        fi
    done
    echo "$root: the kernel is $oldest"
}

if [ $# != 2 ]; then usage; fi
case $1 in small | debian | upgrade | rewind) ;; *) usage ;; esac
if [ "$(id -u)" != 0 ]; then exec sudo --preserve-env=LAB_KERNEL "${BASH_SOURCE[0]}" "$@"; fi
root=$2
mkdir -p "$(dirname "$root")"
# Tests may call this at the same time as a person.
exec 9>"$root.lock"
flock 9
case $1 in
small | debian)
    # One that was cut short has no name of its own.
    if [ -d "$root" ]; then
        echo "$root: is there already"
        exit 0
    fi
    rm -rf --one-file-system "$root.partial"
    "make_$1" "$root.partial"
    mv "$root.partial" "$root"
    echo "$root: $(du -sm "$root" | cut -f 1) MiB, kernel $(versions)"
    ;;
*) "$1" ;;
esac
