"""What independent readers make of disk images: read.py READER[:OFFSET,...] FILE...

One line for each file, its fields with tabs between: the path, then what the reader says:

dissect, pyvmdk: length of the disk, and the SHA-256 of all its bytes, or of 64 KiB at each offset
oslo: format, length of the disk, and what OpenStack's safety check finds wrong, or `safe`
cot: what it tells of the machine, then its complaints
tarfile: a field for each member, NAME:TYPE:SIZE:SHA-256 of its first and last 512 bytes

A reader that gives up says `refused` and why.
"""

import hashlib
import logging
import sys
import tarfile
from pathlib import Path

PIECE = 1 << 20
PLACE = 1 << 16


def one_line(text):
    return " ".join(str(text).split())


def digest(disk, length, offsets):
    sha256 = hashlib.sha256()
    pieces = [(offset, PLACE) for offset in offsets]
    if not offsets:
        pieces = [(at, min(PIECE, length - at)) for at in range(0, length, PIECE)]
    for offset, size in pieces:
        disk.seek(offset)
        while size > 0:
            read = disk.read(size)
            if not read:
                raise EOFError(f"nothing to read {size} bytes before {offset}")
            sha256.update(read)
            size -= len(read)
    return length, sha256.hexdigest()


def dissect(path, offsets):
    from dissect.hypervisor.disk import qcow2, vdi, vhd, vhdx, vmdk

    with open(path, "rb") as file:
        magic = file.read(4)
        file.seek(0)
        if magic in (b"KDMV", b"# Di"):
            disk = vmdk.VMDK(Path(path))
        elif magic == b"vhdx":
            disk = vhdx.VHDX(Path(path))
        elif magic == b"QFI\xfb":
            disk = qcow2.QCow2(Path(path)).open()
        elif magic == b"<<< ":
            disk = vdi.VDI(file).open()
        else:
            disk = vhd.VHD(file)
        return digest(disk, disk.size, offsets)


def pyvmdk(path, offsets):
    import pyvmdk

    handle = pyvmdk.handle()
    handle.open(path)
    handle.open_extent_data_files()
    return digest(handle, handle.get_media_size(), offsets)


def oslo(path, _):
    from oslo_utils.imageutils import format_inspector

    logging.disable()
    inspector = format_inspector.detect_file_format(path)
    try:
        inspector.safety_check()
        verdict = "safe"
    except format_inspector.SafetyCheckFailed as error:
        verdict = " ".join(sorted(error.failures))
    return inspector, inspector.virtual_size, verdict


class Complaints(logging.Handler):
    """Keeps warnings and errors."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.texts = []

    def emit(self, record):
        self.texts.append(one_line(record.getMessage()))


def cot(path, _):
    from COT.vm_description import VMDescription

    complaints = Complaints()
    logging.getLogger().addHandler(complaints)
    try:
        machine = VMDescription.factory(path, None)
        return one_line(machine.info_string(200)), *complaints.texts
    finally:
        logging.getLogger().removeHandler(complaints)


def ends(archive, member):
    file = archive.extractfile(member)
    sha256 = hashlib.sha256(file.read(512))
    file.seek(max(0, member.size - 512))
    sha256.update(file.read(512))
    return sha256.hexdigest()


def tar(path, _):
    with tarfile.open(path, "r:") as archive:
        return [
            f"{member.name}:{member.type.decode()}:{member.size}:{ends(archive, member)}"
            for member in archive
        ]


READERS = {"dissect": dissect, "pyvmdk": pyvmdk, "oslo": oslo, "cot": cot, "tarfile": tar}


def main():
    name, _, offsets = sys.argv[1].partition(":")
    offsets = [int(offset) for offset in offsets.split(",") if offset]
    for path in sys.argv[2:]:
        try:
            said = READERS[name](path, offsets)
        except Exception as error:
            said = ("refused", one_line(f"{type(error).__name__}: {error}"))
        print(path, *said, sep="\t")


main()
