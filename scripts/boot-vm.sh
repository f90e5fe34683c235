#!/usr/bin/env bash
# Boot a disk image in an emulated machine until it powers itself off, and look for what its guest says on the serial
# line: that of examples/lab, without BOOT_MARKER.
#
#   boot-vm.sh IMAGE FORMAT [CONTROLLER]
#
# FORMAT      raw | vmdk | qcow2 | vdi | vpc (a VHD) | vhdx, as qemu calls them; ova:OFFSET:SIZE is the VMDK at these
#             bytes of an OVA, read in place. An image may be the child of another.
# CONTROLLER  pvscsi (default) | nvme | virtio | virtio-scsi | ide | ahci
#
# Environment: BOOT_NIC (vmxnet3), BOOT_MEMORY in MiB (256), BOOT_TIMEOUT in seconds (180), QEMU (qemu-system-x86_64).
# BOOT_NETWORK=open lets the guest reach this host, as 10.0.2.2, and what the host reaches.
# The image is opened read-only: what the guest writes goes to a temporary file below TMPDIR and is dropped;
# with BOOT_SNAPSHOT=off it goes to the image, with BOOT_OVERLAY=FILE to a qcow2 file over the image, made anew.
# BOOT_MARKER is the line that means success (MIRAGEFS-GUEST: ok). The serial line reads from BOOT_INPUT (/dev/null).
# Neither root nor /dev/kvm is needed. Exit: 0 the guest said ok, 1 it did not, 2 usage.
set -euo pipefail

usage() {
    echo "usage: boot-vm.sh IMAGE raw|vmdk|qcow2|vdi|vpc|vhdx|ova:OFFSET:SIZE [pvscsi|nvme|virtio|virtio-scsi|ide|ahci]" >&2
    exit 2
}

if [ $# -lt 2 ] || [ $# -gt 3 ]; then usage; fi
image=$1 format=$2 controller=${3:-pvscsi}
[ -r "$image" ] || { echo "boot-vm.sh: $image: not readable" >&2; exit 2; }
# An overlay elsewhere is to find it too.
image=$(realpath -- "$image")

# A JSON string: names may hold quotes and backslashes.
json_string() {
    local text=${1//\\/\\\\}
    printf '"%s"' "${text//\"/\\\"}"
}

file="{\"driver\": \"file\", \"filename\": $(json_string "$image")}"
case $format in
raw | vmdk | qcow2 | vdi | vpc | vhdx) block="{\"driver\": \"$format\", \"file\": $file}" ;;
ova:*:*)
    IFS=: read -r _ offset size <<<"$format"
    [[ $offset =~ ^[0-9]+$ && $size =~ ^[0-9]+$ ]] || usage
    block="{\"driver\": \"vmdk\", \"file\": {\"driver\": \"raw\", \"offset\": $offset, \"size\": $size, \"file\": $file}}"
    ;;
*) usage ;;
esac

machine=q35
case $controller in
pvscsi) disk=(-device pvscsi -device "scsi-hd,drive=disk,bootindex=0") ;;
virtio-scsi) disk=(-device virtio-scsi-pci -device "scsi-hd,drive=disk,bootindex=0") ;;
virtio) disk=(-device "virtio-blk-pci,drive=disk,bootindex=0") ;;
nvme) disk=(-device "nvme,drive=disk,serial=disk,bootindex=0") ;;
# The PIIX controller, for which the lab's kernel has a driver, is only on the older machine.
ide) machine=pc disk=(-device "ide-hd,drive=disk,bus=ide.0,bootindex=0") ;;
ahci) disk=(-device "ide-hd,drive=disk,bus=ide.0,bootindex=0") ;;
*) usage ;;
esac

restrict=on
[ "${BOOT_NETWORK:-}" != open ] || restrict=off
snapshot=${BOOT_SNAPSHOT:-on}
if [ -n "${BOOT_OVERLAY:-}" ]; then
    qemu-img create -q -f qcow2 -F "${format/ova:*/vmdk}" -b "json:$block" "$BOOT_OVERLAY"
    block="{\"driver\": \"qcow2\", \"file\": {\"driver\": \"file\", \"filename\": $(json_string "$BOOT_OVERLAY")}}"
    snapshot=off
fi

marker=${BOOT_MARKER:-MIRAGEFS-GUEST: ok}
nic=${BOOT_NIC:-vmxnet3}
timeout_seconds=${BOOT_TIMEOUT:-180}
log=$(mktemp "${TMPDIR:-/tmp}/boot-vm.XXXXXX")
trap 'rm -f "$log"' EXIT

# A comma inside an option's value is written twice. With restrict=on the guest reaches nothing outside.
# romfile= keeps the firmware from trying the network. --foreground: Ctrl-C reaches qemu too.
# stdbuf: what ends in no line's end, such as a prompt, is shown at once.
start=$EPOCHREALTIME
status=0
timeout --foreground --kill-after=5 "$timeout_seconds" "${QEMU:-qemu-system-x86_64}" \
    -accel tcg -machine "$machine" -cpu qemu64 -smp 1 -m "${BOOT_MEMORY:-256}" \
    -nodefaults -vga none -display none -monitor none -serial stdio -no-reboot \
    -drive "file=json:${block//,/,,},id=disk,if=none,snapshot=$snapshot,cache=unsafe" "${disk[@]}" \
    -netdev "user,id=net,restrict=$restrict" -device "$nic,netdev=net,romfile=" \
    <"${BOOT_INPUT:-/dev/null}" 2>&1 | stdbuf -o0 tr -d '\r' | tee "$log" || status=${PIPESTATUS[0]}
seconds=$(awk -v from="$start" -v to="$EPOCHREALTIME" 'BEGIN { printf "%.1f", to - from }')

# The whole line: `FAIL … ok` must not pass.
if grep -qxF "$marker" "$log"; then
    echo "boot-vm.sh: $format on $controller: ok after $seconds s"
    exit 0
fi
reason="the guest did not say ok"
[ "$status" != 124 ] || reason="no answer within $timeout_seconds s"
echo "boot-vm.sh: $format on $controller: failed after $seconds s: $reason (qemu's exit status $status)" >&2
exit 1
