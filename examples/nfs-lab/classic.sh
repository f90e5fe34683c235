#!/usr/bin/env bash
# The same appliance by hand, as it is made without miragefs: each step a program, each as root, and all of them again when a
# line of the config changes.
#
#   classic.sh LAB TIMES OUTPUT     LAB is a directory with root and vmuser; OUTPUT gets boot.ova and what it is made of
#
# TIMES gets a line for each step: seconds and its name. Two things stand in for what Debian does not have: `qemu-img convert` to a
# streamOptimized VMDK and `tar` for VMware's ovftool, and its descriptor is written here.
# Environment: what goes into syslinux.cfg: LAB_SERVER, LAB_ROOT, LAB_OPTIONS, LAB_MESSAGE; and the hardware: LAB_CONTROLLER
# (lsilogic), LAB_CARD (E1000), LAB_MEMORY in MiB (1024).
# Needs root, loop devices, and the packages e2fsprogs, extlinux, fdisk, qemu-utils.
set -euo pipefail
umask 022
export LC_ALL=C
PATH=$PATH:/usr/sbin:/sbin

[ $# = 3 ] || { echo "usage: classic.sh LAB TIMES OUTPUT" >&2; exit 2; }
lab=$1 times=$2 output=$3
image=$output/disk.img mnt=$output/mnt
loops=()

# What a cut-short run leaves is what makes this way a chore.
clean_up() {
    if mountpoint -q "$mnt"; then umount "$mnt"; fi
    local loop
    for loop in "${loops[@]}"; do losetup --detach "$loop" 2>/dev/null || true; done
}
trap clean_up EXIT

step() { # NAME COMMAND...
    local name=$1 start=$EPOCHREALTIME
    shift
    "$@"
    awk -v from="$start" -v to="$EPOCHREALTIME" -v name="$name" 'BEGIN { printf "%.2f %s\n", to - from, name }' >>"$times"
}

# The second argument is the first MiB of a partition, the third its MiB.
attach() { # VARIABLE START SIZE
    local -n loop=$1
    loop=$(losetup --find --show --offset "$(($2 << 20))" --sizelimit "$(($3 << 20))" "$image")
    loops+=("$loop")
}

partition() {
    sfdisk --quiet "$image" <<'END'
label: dos
start=2048, size=256MiB, type=83, bootable
start=526336, type=83
END
}

newest() { # PATTERN
    find "$lab/root/boot/" -maxdepth 1 -name "$1" | sort -V | tail -n 1
}

fill_boot() {
    mount "$boot" "$mnt"
    extlinux --install "$mnt" 2>/dev/null
    cp "$(newest 'vmlinuz-*')" "$mnt/vmlinuz"
    cp "$(newest 'initrd.img-*')" "$mnt/initrd.img"
    cat >"$mnt/syslinux.cfg" <<END
SERIAL 0 115200
DEFAULT client

LABEL client
  LINUX vmlinuz
  INITRD initrd.img
  APPEND root=/dev/nfs nfsroot=$LAB_SERVER:$LAB_ROOT,tcp,nolock ip=dhcp net.ifnames=0 ro console=tty0 console=ttyS0,115200 quiet lab.message=$LAB_MESSAGE $LAB_OPTIONS
END
    umount "$mnt"
}

fill_home() {
    mount "$home" "$mnt"
    cp -a "$lab/vmuser/." "$mnt/vmuser"
    chown -R 1000:100 "$mnt/vmuser"
    umount "$mnt"
}

item() { # ID TYPE NAME MORE
    printf '      <Item>%s<rasd:ElementName>%s</rasd:ElementName><rasd:InstanceID>%s</rasd:InstanceID>%s</Item>\n' \
        "" "$3" "$1" "$4<rasd:ResourceType>$2</rasd:ResourceType>"
}

describe() {
    local rasd=http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData
    local vssd=http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData
    local ovf=http://schemas.dmtf.org/ovf/envelope/1
    cat <<END
<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="$ovf" xmlns:ovf="$ovf" xmlns:rasd="$rasd" xmlns:vssd="$vssd">
  <References><File ovf:href="lab-client-disk1.vmdk" ovf:id="file1" ovf:size="$(stat -c %s "$output/lab-client-disk1.vmdk")"/></References>
  <DiskSection><Info>Disks</Info>
    <Disk ovf:capacity="$(stat -c %s "$image")" ovf:diskId="vmdisk1" ovf:fileRef="file1" ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/>
  </DiskSection>
  <NetworkSection><Info>Networks</Info><Network ovf:name="nat"><Description>nat</Description></Network></NetworkSection>
  <VirtualSystem ovf:id="lab-client"><Info>A machine</Info><Name>lab-client</Name>
    <VirtualHardwareSection><Info>Hardware</Info>
      <System><vssd:ElementName>Hardware</vssd:ElementName><vssd:InstanceID>0</vssd:InstanceID><vssd:VirtualSystemType>vmx-13</vssd:VirtualSystemType></System>
END
    item 1 3 processor "<rasd:VirtualQuantity>1</rasd:VirtualQuantity>"
    item 2 4 memory "<rasd:VirtualQuantity>${LAB_MEMORY:-1024}</rasd:VirtualQuantity>"
    item 3 6 scsi0 "<rasd:Address>0</rasd:Address><rasd:ResourceSubType>${LAB_CONTROLLER:-lsilogic}</rasd:ResourceSubType>"
    item 4 17 disk1 "<rasd:HostResource>ovf:/disk/vmdisk1</rasd:HostResource><rasd:Parent>3</rasd:Parent>"
    item 5 10 ethernet0 "<rasd:Connection>nat</rasd:Connection><rasd:ResourceSubType>${LAB_CARD:-E1000}</rasd:ResourceSubType>"
    printf '    </VirtualHardwareSection>\n  </VirtualSystem>\n</Envelope>\n'
}

package() {
    describe >"$output/lab-client.ovf"
    (
        cd "$output"
        sha256sum --tag lab-client.ovf lab-client-disk1.vmdk | sed 's/^SHA256 (\(.*\)) = /SHA256(\1)= /' >lab-client.mf
        tar --format=ustar -cf boot.ova lab-client.ovf lab-client-disk1.vmdk lab-client.mf
    )
}

mkdir -p "$mnt"
: >"$times"
# As the tutorial writes it, with dd; a file of holes would do, and is what `truncate` makes.
step "dd of an empty disk" dd if=/dev/zero of="$image" bs=1M count=1024 status=none
step "sfdisk" partition
step "dd of mbr.bin" dd if=/usr/lib/EXTLINUX/mbr.bin of="$image" bs=440 count=1 conv=notrunc status=none
step "losetup" attach boot 1 256
attach home 257 767
step "mkfs.ext4 of boot" mkfs.ext4 -q -L boot "$boot"
step "mkfs.ext4 of home" mkfs.ext4 -q -L home "$home"
step "mount, extlinux, cp of kernel and initrd, umount" fill_boot
step "mount, cp and chown of home, umount" fill_home
step "losetup --detach" losetup --detach "${loops[@]}"
loops=()
step "qemu-img convert to a compressed VMDK" \
    qemu-img convert -f raw -O vmdk -o subformat=streamOptimized "$image" "$output/lab-client-disk1.vmdk"
step "descriptor, manifest, tar" package
