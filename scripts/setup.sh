#!/usr/bin/env bash
# Install what is missing on a Debian machine, and nothing else. A second run changes nothing.
#
#   setup.sh [demo|os|lab|test|long|bench]
#
# demo: what building, mounting, checking and booting the example needs. os: also what unpacks the Debian of examples/os.
# lab: also the servers of examples/nfs-lab.
# test (default): also what the tests run; the Python readers of tests/readers come from PyPI, below target/tools.
# bench: also the other servers that the benchmark of the read path compares with.
# long: also cargo-fuzz, a C++ compiler for it, and fsx, which `make test-long` runs; Debian has none, so cargo builds it below target/tools.
# Root, or sudo, is needed only if something is missing.
set -euo pipefail
# Debian gives ordinary users no sbin; e2fsck and sfdisk live there.
PATH=$PATH:/usr/sbin:/sbin
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/cargo-path.sh
. scripts/cargo-path.sh

profile=${1:-test}
case $profile in
demo | os | lab | test | long | bench) ;;
*)
    echo "usage: setup.sh [demo|os|lab|test|long|bench]" >&2
    exit 2
    ;;
esac

is_for_tests() {
    [ "$profile" = test ] || [ "$profile" = long ] || [ "$profile" = bench ]
}

die() {
    echo "setup.sh: $*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# Put PACKAGE on the list if PROGRAM is not there.
need() { # PROGRAM PACKAGE...
    local program=$1
    shift
    command -v "$program" >/dev/null || missing+=("$@")
}

# The static busybox: another package has a program of the same name and place that cannot run in an initramfs.
need_static_busybox() {
    [ "$(dpkg-query --show --showformat='${db:Status-Status}' busybox-static 2>/dev/null)" = installed ] ||
        missing+=(busybox-static)
}

# qemu's block driver for http is a package of its own, of the same version as the others.
need_qemu_over_http() {
    compgen -G '/usr/lib/*/qemu/block-curl.so' >/dev/null ||
        missing+=(qemu-block-extra qemu-utils qemu-system-x86)
}

# A cargo that is new enough is left alone. Debian's `-web` packages are the compiler that it builds browsers with:
# newer than its own cargo.
need_rust() {
    local debian=(cargo-web rustc-web)
    ! is_for_tests || debian+=(rustfmt-web rust-web-clippy)
    if ! use_newest_cargo; then
        missing+=("${debian[@]}")
    elif is_for_tests && ! { cargo fmt --version && cargo clippy --version; } >/dev/null 2>&1; then
        # The formatter and the linter come from where the compiler came from.
        if command -v rustup >/dev/null; then
            rustup component add rustfmt clippy
        else
            missing+=("${debian[@]}")
        fi
    fi
}

list_missing() {
    missing=()
    need_rust
    # cargo fetches over TLS, and does not depend on the certificates
    [ -e /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)
    need cc gcc libc6-dev
    need make make
    need python3 python3
    need fusermount3 fuse3
    need extlinux extlinux
    need e2fsck e2fsprogs
    need sfdisk fdisk
    need qemu-img qemu-utils qemu-system-x86
    need qemu-system-x86_64 qemu-utils qemu-system-x86
    need_static_busybox
    [ "$profile" = demo ] || need mmdebstrap mmdebstrap
    [ "$profile" = demo ] || [ "$profile" = os ] || need_servers
    is_for_tests || return 0
    need 7zz 7zip
    need vmdkinfo libvmdk-utils
    need vhdiinfo libvhdi-utils
    need qcowinfo libqcow-utils
    need xmllint libxml2-utils
    need_qemu_over_http
    need chromium chromium
    need chromedriver chromium-driver
    need qemu-x86_64 qemu-user
    need file file
    need rsync rsync
    need setfattr attr
    need setfacl acl
    need mkfs.xfs xfsprogs
    need mkfs.btrfs btrfs-progs
    need setpriv util-linux
    need bsdtar libarchive-tools
    need mtree mtree-netbsd
    need stress-ng stress-ng
    need vagrant vagrant
    # Debian's own Python, which its package of venv belongs to.
    /usr/bin/python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3 python3-venv)
    # The shell has a word of that name.
    [ -x /usr/bin/time ] || missing+=(time)
    [ "$profile" != long ] || need g++ g++
    [ "$profile" != bench ] || need_peers
}

# What serves the lab's root and images, and what asks them.
need_servers() {
    need nginx nginx-light
    need curl curl
    need ganesha.nfsd nfs-ganesha nfs-ganesha-vfs
    need rpcbind rpcbind
    need ip iproute2
    need unshare util-linux
    need pgrep procps
}

# Other FUSE servers of disk images, which the benchmark reads beside ours.
need_peers() {
    need xmount xmount
    need nbdkit nbdkit
    need nbdfuse libnbd-bin
    need qemu-storage-daemon qemu-system-common qemu-utils qemu-system-x86
}

# The exerciser of files, by Alan Somers.
build_fsx() {
    [ "$profile" = long ] && [ ! -x target/tools/bin/fsx ] || return 0
    use_newest_cargo
    cargo install --locked --quiet --root target/tools --version 0.3.2 fsx
}

build_cargo_fuzz() {
    [ "$profile" = long ] && [ ! -x target/tools/bin/cargo-fuzz ] || return 0
    use_newest_cargo
    cargo install --locked --quiet --root target/tools cargo-fuzz
}

# Readers of disk images that are written in Python, in an environment of their own. Its copy of the list comes last:
# with it, all is there. Without PyPI the tests say what they lack.
install_readers() {
    local readers=target/tools/readers list=tests/readers/requirements.txt
    is_for_tests || return 0
    if cmp -s "$list" "$readers/requirements.txt" && "$readers/bin/python" -c 'import pyvmdk' 2>/dev/null; then
        return 0
    fi
    echo "setup.sh: installing the Python readers"
    rm -rf "$readers"
    /usr/bin/python3 -m venv "$readers"
    if "$readers/bin/python" -m pip install --quiet --disable-pip-version-check --no-input \
        --no-deps --only-binary :all: -r "$list"; then
        cp "$list" "$readers/requirements.txt"
    else
        echo "setup.sh: the Python readers cannot be installed; tests that ask them say so" >&2
    fi
}

install_tools() {
    build_fsx
    build_cargo_fuzz
    install_readers
}

# qemu-utils and qemu-system-x86 must be of one version. Where a backport of one is installed that no archive offers
# any more, apt refuses the other or removes the first: name both, with the archive's version, and allow the step back.
with_versions() { # PACKAGE...
    local package version
    version=$(apt-cache policy qemu-system-x86 | awk '/Candidate:/ { print $2 }')
    for package in "$@"; do
        case $package in
        qemu-*) echo "$package=$version" ;;
        *) echo "$package" ;;
        esac
    done | sort -u
}

list_missing
if [ ${#missing[@]} -eq 0 ]; then
    install_tools
    echo "setup.sh: nothing is missing for $profile"
    exit 0
fi
command -v apt-get >/dev/null || die "no apt-get here; missing, as Debian calls them: ${missing[*]}"
[ "$(id -u)" = 0 ] || command -v sudo >/dev/null || die "run as root, there is no sudo; missing: ${missing[*]}"

# A repository that does not answer may have nothing to do with us.
as_root apt-get -qq update || echo "setup.sh: some of the lists of packages are old" >&2
mapfile -t packages < <(with_versions "${missing[@]}")
echo "setup.sh: installing ${packages[*]}"
as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get -qq -o Dpkg::Use-Pty=0 install -y --no-install-recommends --allow-downgrades "${packages[@]}"
# The tests and the lab start servers of their own; the packages would leave others running.
stop_new_servers() {
    local package units
    [ -d /run/systemd/system ] || return 0
    for package in "${packages[@]}"; do
        case $package in
        nginx-light) units=(nginx) ;;
        nfs-ganesha) units=(nfs-ganesha) ;;
        rpcbind) units=(rpcbind.socket rpcbind.service) ;;
        *) continue ;;
        esac
        as_root systemctl --quiet disable --now "${units[@]}"
    done
}
stop_new_servers

list_missing
[ ${#missing[@]} -eq 0 ] || die "still missing after the installation: ${missing[*]}"
install_tools
