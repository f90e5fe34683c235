#!/usr/bin/env bash
# Unpack Debian 12 into examples/os/generated/root with mmdebstrap: a kernel for virtual machines, systemd, and what
# they need. The packages come from where apt of this machine takes them; a machine without Debian 12 among its
# sources takes mmdebstrap's own choice.
#
# Needs root, or sudo. A second run changes nothing, unless this script was changed; `make clean` makes room for newer
# packages. Root's password is `miragefs`.
set -euo pipefail
umask 022
export LC_ALL=C

os=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
generated=$os/generated
suite=bookworm
# zstd packs the initramfs; update-initramfs would take gzip without it, which unpacks more slowly.
packages=(systemd-sysv udev linux-image-cloud-amd64 zstd)
# No package of these needs what is left out here.
left_out=(/usr/share/doc /usr/share/man /usr/share/info /usr/share/locale)

die() {
    echo "prepare.sh: $*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# Lines of a sources.list, as apt of this machine has them.
sources_of_this_machine() {
    apt-get indextargets --format "deb \$(SITE) \$(RELEASE) \$(COMPONENT)" 'Created-By: Packages' 'Origin: Debian' |
        grep -E " ($suite|$suite-updates|$suite-security) " | sort -u || true
}

# How this machine reaches them: dated mirrors and proxies need these.
apt_options_of_this_machine() {
    apt-config dump | grep -E '^Acquire::(Check-Valid-Until|Check-Date|https?::Proxy) ' || true
}

# Print the options of mmdebstrap, one a line.
options() {
    local keyring=/usr/share/keyrings/debian-archive-keyring.gpg line
    local IFS=,
    printf '%s\n' --mode=root --format=directory --variant=minbase "--include=${packages[*]}"
    [ ! -e "$keyring" ] || echo "--keyring=$keyring"
    printf '%s\n' "--aptopt=Acquire::Languages \"none\"" "--aptopt=APT::Install-Recommends \"false\""
    while read -r line; do [ -z "$line" ] || echo "--aptopt=${line%;}"; done < <(apt_options_of_this_machine)
    for line in "${left_out[@]}"; do echo "--dpkgopt=path-exclude=$line/*"; done
    echo "--customize-hook=echo root:miragefs | chroot \"\$1\" chpasswd"
    # What belongs to this machine stays here.
    for line in apt/sources.list "apt/sources.list.d/*" apt/apt.conf.d/99mmdebstrap resolv.conf; do
        echo "--customize-hook=rm -f \"\$1\"/etc/$line"
    done
}

build() { # DIRECTORY
    local arguments sources=()
    mapfile -t arguments < <(options)
    sources_of_this_machine >"$generated/sources.list"
    [ ! -s "$generated/sources.list" ] || sources=("$generated/sources.list")
    as_root mmdebstrap "${arguments[@]}" "$suite" "$1" "${sources[@]}"
    rm -f "$generated/sources.list"
}

[ "$(id -u)" = 0 ] || command -v sudo >/dev/null || die "run as root, there is no sudo"
command -v mmdebstrap >/dev/null || die "mmdebstrap is missing: scripts/setup.sh os"
mkdir -p "$generated"
# Tests may call this at the same time as a person.
exec 9>"$generated/lock"
flock 9
stamp=$(sha256sum <"${BASH_SOURCE[0]}")
if [ -d "$generated/root" ] && [ "$(cat "$generated/stamp" 2>/dev/null)" = "$stamp" ]; then
    echo "examples/os/generated: nothing changed"
    exit 0
fi
staging=$(mktemp -d "$generated/staging.XXXXXX")
trap 'as_root rm -rf --one-file-system "$staging"' EXIT
build "$staging/root"
# A mount that is live keeps the old files until it is mounted again.
[ ! -e "$generated/root" ] || as_root mv "$generated/root" "$staging/old"
as_root mv "$staging/root" "$generated/root"
echo "$stamp" >"$generated/stamp"
echo "examples/os/generated: changed: root, $(as_root du -sm "$generated/root" | cut -f 1) MiB"
