#!/usr/bin/env bash
# Unpack Debian's newest kernel for virtual machines below DIRECTORY, as its package has it, and print where. Nothing is
# installed. A kernel that was fetched before will do; without the directory a newer one is fetched.
#
#   fetch-kernel.sh DIRECTORY
set -euo pipefail
umask 022
export LC_ALL=C

[ $# = 1 ] || { echo "usage: fetch-kernel.sh DIRECTORY" >&2; exit 2; }
cache=$1

die() {
    echo "fetch-kernel.sh: $*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# The package of the newest kernel, as apt knows it; nothing if apt has no lists.
kernel_package() {
    apt-cache depends linux-image-cloud-amd64 2>/dev/null | awk '/Depends: linux-image-/ { print $2; exit }'
}

# As root, apt would drop to a user that may not write here, and warn. What was cut short is never taken for whole.
download() { # PACKAGE
    mkdir -p "$cache/partial"
    (cd "$cache/partial" && apt-get -qq -o APT::Sandbox::User="$(id -un)" download "$1") || return 1
    mv "$cache/partial/$1"_*.deb "$cache/"
}

mkdir -p "$cache"
# Tests may call this at the same time as a person.
exec 8>"$cache/kernel.lock"
flock 8
debs=("$cache"/linux-image-*-cloud-amd64_*.deb)
if [ ! -e "${debs[0]}" ]; then
    package=$(kernel_package)
    if [ -z "$package" ] || ! download "$package" >&2; then
        echo "fetch-kernel.sh: refreshing apt's lists" >&2
        as_root apt-get -qq update >&2
        package=$(kernel_package)
        [ -n "$package" ] || die "apt knows no linux-image-cloud-amd64 (Debian's main archive, amd64)"
        download "$package" >&2
    fi
    debs=("$cache"/linux-image-*-cloud-amd64_*.deb)
fi
unpacked=${debs[0]%.deb}
if [ ! -d "$unpacked" ]; then
    rm -rf "$unpacked.partial"
    dpkg -x "${debs[0]}" "$unpacked.partial"
    mv "$unpacked.partial" "$unpacked"
fi
echo "$unpacked"
