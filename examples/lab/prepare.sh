#!/usr/bin/env bash
# Prepare what lab.toml names below examples/lab/generated: Debian's cloud kernel, an initramfs around `init`, the
# home directory, and a list of checksums for each partition, which the guest verifies.
#
# Nothing is installed. A checkout's owners, modes and times depend on who made it, so everything is copied and
# given fixed modes and the config's source-date-epoch; the config gives the owners. A second run changes nothing.
set -euo pipefail
umask 022
export LC_ALL=C

lab=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
project=$(cd "$lab/../.." && pwd)
generated=$lab/generated
cache=$generated/cache
# Enough for every controller and card that scripts/boot-vm.sh offers; NVMe and ext4 are built into this kernel.
modules=(virtio_pci virtio_blk virtio_scsi ata_piix vmw_pvscsi sd_mod vmxnet3)

die() {
    echo "prepare.sh: $*" >&2
    exit 1
}

# Fixed modes, then fixed times; links keep their own.
normalise() { # DIRECTORY
    find "$1" -type d -exec chmod 0755 {} +
    find "$1" -type f -perm /0100 -exec chmod 0755 {} +
    find "$1" -type f ! -perm /0100 -exec chmod 0644 {} +
    find "$1" -exec touch --no-dereference --date="@$epoch" {} +
}

# The checksums of every file below DIRECTORY, named as the guest will see them below PREFIX.
checksums() { # DIRECTORY PREFIX
    (cd "$1" && find . -type f -printf '%P\0' | sort -z | xargs -0 -r sha256sum) | sed -E "s|^([0-9a-f]+  )|\1$2|"
}

# What a reader of the directory can tell apart: names, types, modes, times, link counts and targets, contents.
fingerprint() { # DIRECTORY
    [ -d "$1" ] || return 0
    (cd "$1" && find . -printf '%p %y %m %T@ %n %l\n' | sort && checksums . "")
}

# What git cannot store or should not: an empty directory, a hard link, a file of many blocks, and a directory so
# full that ext4 gives it an index.
add_to_home() { # DIRECTORY
    mkdir -p "$1/Desktop" "$1/cavity/constant/polyMesh" "$1/cavity/postProcessing/probes"
    ln "$1/cavity/system/controlDict" "$1/cavity/controlDict.reference"
    awk 'BEGIN { for (y = 0; y <= 100; y++) for (x = 0; x <= 100; x++) printf "(%.3f %.3f 0)\n", x / 100, y / 100 }' \
        >"$1/cavity/constant/polyMesh/points"
    for time in $(seq -w 1 400); do
        echo "# Time 0.$time" >"$1/cavity/postProcessing/probes/0.$time"
    done
}

build() { # OUTPUT DIRECTORY
    local out=$1 kernel module_directory module_options=()
    kernel=$("$project/scripts/fetch-kernel.sh" "$cache")
    mkdir -p "$out/boot" "$out/home"
    local images=("$kernel"/boot/vmlinuz-*) versions=("$kernel"/lib/modules/*)
    cp "${images[0]}" "$out/boot/vmlinuz"
    module_directory=${versions[0]}
    for module in "${modules[@]}"; do module_options+=(--module "$module"); done
    python3 "$project/scripts/mkinitramfs.py" --init "$lab/init" --modules "$module_directory" \
        "${module_options[@]}" "$out/boot/initrd.img"
    checksums "$out/boot" "" >"$out/boot.sums"
    mv "$out/boot.sums" "$out/boot/.sha256sums"

    cp -R --no-dereference "$lab/vmuser" "$out/vmuser"
    add_to_home "$out/vmuser"
    checksums "$out/vmuser" "vmuser/" >"$out/home/.sha256sums"
    normalise "$out"
}

epoch=$(sed -n 's/^source-date-epoch *= *\([0-9]*\).*/\1/p' "$lab/lab.toml")
[ -n "$epoch" ] || die "$lab/lab.toml: no source-date-epoch"
mkdir -p "$cache"
# Tests may call this at the same time as a person.
exec 9>"$cache/lock"
flock 9
staging=$(mktemp -d "$generated/staging.XXXXXX")
trap 'rm -rf "$staging"' EXIT
build "$staging/new"

changed=
for tree in boot home vmuser; do
    if [ "$(fingerprint "$staging/new/$tree")" != "$(fingerprint "$generated/$tree")" ]; then
        # A mount that is live keeps the old files until it is reloaded.
        [ ! -e "$generated/$tree" ] || mv "$generated/$tree" "$staging/old-$tree"
        mv "$staging/new/$tree" "$generated/$tree"
        changed+=" $tree"
    fi
done
echo "examples/lab/generated: ${changed:+changed:}${changed:-nothing changed}"
