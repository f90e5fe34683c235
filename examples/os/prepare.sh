#!/usr/bin/env bash
# Unpack Debian 12 into examples/os/generated/root with mmdebstrap: a kernel for virtual machines, systemd, and what
# they need. The packages come from where apt of this machine takes them; a machine without Debian 12 among its
# sources takes mmdebstrap's own choice.
#
#   prepare.sh [--rootless]
#
# Needs root, or sudo. With --rootless it needs neither, but the packages mmdebstrap, uidmap and libarchive-tools: the
# same goes to generated/rootless, beside a manifest of the owners, modes, times and devices that an ordinary user
# cannot give to files, and a config that names both.
#
# A second run changes nothing, unless this script was changed; `make clean` makes room for newer packages. Root's
# password is `miragefs`.
set -euo pipefail
umask 022
export LC_ALL=C

os=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
project=$(cd "$os/../.." && pwd)
generated=$os/generated
suite=bookworm
# zstd packs the initramfs; update-initramfs would take gzip without it, which unpacks more slowly.
packages=(systemd-sysv udev linux-image-cloud-amd64 zstd)
# shellcheck source=scripts/debian-archive.sh
. "$project/scripts/debian-archive.sh"
# No package of these needs what is left out here.
left_out=(/usr/share/doc /usr/share/man /usr/share/info /usr/share/locale)

die() {
    echo "prepare.sh: $*" >&2
    exit 1
}

# Run a command as the owner of the tree: root, but for --rootless.
as_owner() {
    ${become:+"$become"} "$@"
}

# Print the options of mmdebstrap but for mode and format, one a line.
options() {
    local line IFS=,
    printf '%s\n' --variant=minbase "--include=${packages[*]}"
    archive_options
    for line in "${left_out[@]}"; do echo "--dpkgopt=path-exclude=$line/*"; done
    echo "--customize-hook=echo root:miragefs | chroot \"\$1\" chpasswd"
    # What belongs to this machine stays here.
    for line in apt/sources.list "apt/sources.list.d/*" apt/apt.conf.d/99mmdebstrap resolv.conf; do
        echo "--customize-hook=rm -f \"\$1\"/etc/$line"
    done
}

# Put Debian into TARGET.
unpack() { # TARGET OPTION...
    local target=$1 arguments sources=()
    shift
    mapfile -t arguments < <(options)
    sources_of_this_machine "$suite" >"$staging/sources.list"
    [ ! -s "$staging/sources.list" ] || sources=("$staging/sources.list")
    as_owner mmdebstrap "$@" "${arguments[@]}" "$suite" "$target" "${sources[@]}"
}

with_root() {
    unpack "$staging/root" --mode=root --format=directory
}

# Devices come from the manifest alone, ACLs from the archive. The modes of a few files deny reading to their owner, who
# is whoever unpacks.
without_root() {
    unpack "$staging/root.tar" --mode=unshare --format=tar
    bsdtar -cf "$staging/root.mtree" --format=mtree --options='!all,type,uid,gid,mode,time,device,link' \
        "@$staging/root.tar"
    mkdir "$staging/root"
    tar --xattrs --xattrs-include='system.posix_acl_*' --exclude='./dev/*' \
        -xf "$staging/root.tar" -C "$staging/root"
    mkdir "$staging/root/dev/pts" "$staging/root/dev/shm"
    chmod -R u+rwX "$staging/root"
}

# os.toml, with the copy entry that it has for this tree.
write_config() {
    sed 's|"generated/root", to = "/"|"root", to = "/", owners = "root.mtree"|' "$os/os.toml" >"$generated/os.toml"
}

need() { # PROGRAM PACKAGE
    command -v "$1" >/dev/null || die "$1 is missing: install the package $2"
}

need mmdebstrap mmdebstrap
become=
case ${1:-} in
'')
    [ "$(id -u)" = 0 ] || become=sudo
    need "${become:-true}" sudo
    how=with_root parts=(root)
    ;;
--rootless)
    need bsdtar libarchive-tools
    need newuidmap uidmap
    how=without_root parts=(root root.mtree) generated=$generated/rootless
    ;;
*)
    echo "usage: prepare.sh [--rootless]" >&2
    exit 2
    ;;
esac
mkdir -p "$generated"
# Tests may call this at the same time as a person.
exec 9>"$generated/lock"
flock 9
[ "$how" = with_root ] || write_config
stamp=$(cat "${BASH_SOURCE[0]}" "$project/scripts/debian-archive.sh" | sha256sum)
if [ -d "$generated/root" ] && [ "$(cat "$generated/stamp" 2>/dev/null)" = "$stamp" ]; then
    echo "${generated#"$project"/}: nothing changed"
    exit 0
fi
staging=$(mktemp -d "$generated/staging.XXXXXX")
trap 'as_owner rm -rf --one-file-system "$staging"' EXIT
"$how"
mkdir "$staging/old"
for part in "${parts[@]}"; do
    # A mount that is live keeps the old files until it is mounted again.
    [ ! -e "$generated/$part" ] || as_owner mv "$generated/$part" "$staging/old/"
    as_owner mv "$staging/$part" "$generated/$part"
done
echo "$stamp" >"$generated/stamp"
echo "${generated#"$project"/}: changed: root, $(as_owner du -sm "$generated/root" | cut -f 1) MiB"
