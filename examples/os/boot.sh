#!/usr/bin/env bash
# Boot an image of os.toml read-write in an emulated machine, log in on its serial line, shut it down, and look at what
# it left: the file system must be clean, and hold what the guest wrote.
#
#   boot.sh IMAGE FORMAT [CONTROLLER [COPY]]
#
# IMAGE, FORMAT and CONTROLLER (virtio) are those of scripts/boot-vm.sh. What the guest writes goes to an overlay in a
# temporary directory; the image is only read. COPY is where the disk as the guest left it is kept, as a sparse raw
# file.
#
# Environment: BOOT_TIMEOUT in seconds (600), OS_PASSWORD (miragefs), and what scripts/boot-vm.sh knows.
# Neither root nor /dev/kvm is needed. Exit: 0 all is well, 1 it is not, 2 usage.
set -euo pipefail
export LC_ALL=C
PATH=$PATH:/usr/sbin:/sbin

die() {
    echo "boot.sh: $*" >&2
    exit 1
}

if [ $# -lt 2 ] || [ $# -gt 4 ]; then
    echo "usage: boot.sh IMAGE raw|vmdk|ova:OFFSET:SIZE [pvscsi|nvme|virtio|virtio-scsi [COPY]]" >&2
    exit 2
fi
image=$1 format=$2 controller=${3:-virtio}
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
scratch=$(mktemp -d "${TMPDIR:-/tmp}/miragefs-os.XXXXXX")
copy=${4:-$scratch/disk.img}
operator=
trap '[ -z "$operator" ] || kill "$operator" 2>/dev/null || true; rm -rf "$scratch"' EXIT

# What the operator sees, and types with `enter`.
console=$scratch/console
mkfifo "$scratch/keyboard"
: >"$console"

# Wait until the console shows what matches PATTERN behind what was shown before.
seen=0
await() { # PATTERN
    until tail -c "+$((seen + 1))" "$console" | grep -aqE "$1"; do sleep 0.2; done
    seen=$(stat -c %s "$console")
}

enter() { # TEXT
    printf '%s\r' "$1" >&3
}

# Both ends of the keyboard are open here, so that neither side waits for the other.
operate() {
    await '^MIRAGEFS-OS: (ok|FAIL)'
    seen=0
    await ' login: '
    enter root
    await 'Password: '
    enter "${OS_PASSWORD:-miragefs}"
    await '~# '
    enter "systemctl poweroff"
    touch "$scratch/operated"
}

exec 3<>"$scratch/keyboard"
operate &
operator=$!
start=$SECONDS
booted=0
BOOT_MARKER='MIRAGEFS-OS: ok' BOOT_MEMORY=${BOOT_MEMORY:-512} BOOT_TIMEOUT=${BOOT_TIMEOUT:-600} \
    BOOT_INPUT=$scratch/keyboard BOOT_OVERLAY=$scratch/overlay.qcow2 TMPDIR=$scratch \
    "$project/scripts/boot-vm.sh" "$image" "$format" "$controller" | tee "$console" || booted=$?
[ "$booted" = 0 ] || die "the machine did not boot"
[ -e "$scratch/operated" ] || die "nobody could log in"
echo "boot.sh: from power on to power off: $((SECONDS - start)) s"

qemu-img convert -O raw "$scratch/overlay.qcow2" "$copy"
sector=$(sfdisk --dump "$copy" | sed -n 's/.*start= *\([0-9]*\),.*/\1/p')
partition="$copy?offset=$((sector * 512))"
status=0
report=$(e2fsck -fn "$partition" 2>&1) || status=$?
echo "$report"
[ "$status" = 0 ] || die "e2fsck's exit status is $status"
if grep -vE '^(e2fsck [0-9].*|Pass [1-5]: .*|.*: [0-9]+/[0-9]+ files \([0-9.]+% non-contiguous\), [0-9]+/[0-9]+ blocks)$' \
    <<<"$report"; then
    die "e2fsck said more than its passes and its summary"
fi
written=$(debugfs -R 'cat /var/lib/miragefs/boots' "$partition" 2>/dev/null)
echo "/var/lib/miragefs/boots: $written"
[[ $written =~ ^[0-9]{4}-[0-9:TZ-]+\ Linux\ [^$'\n']+$ ]] || die "expected one line that the guest wrote"
echo "boot.sh: $format on $controller: booted, logged in, and left a clean file system"
