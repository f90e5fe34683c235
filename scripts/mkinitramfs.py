#!/usr/bin/env python3
"""Build a small initramfs: a static busybox, one init script, and kernel modules.

The archive is a newc cpio ("070701", kernel Documentation/driver-api/early-userspace/buffer-format.rst) written
directly: no root, no cpio program, no device files on this machine. Equal inputs give equal bytes: every time is
zero, every owner is 0:0, and the order is fixed.

Modules are placed as /lib/modules/NN-name.ko; inserting them in the order of their names satisfies every
dependency.
"""

import argparse
import pathlib
import stat
import struct
import sys

DIRECTORIES = ["bin", "dev", "etc", "lib", "lib/modules", "mnt", "proc", "run", "sys", "tmp"]
ALIGNMENT = 4  # of each header and each body in a newc archive


class CpioWriter:
    """An initramfs under construction, kept in memory."""

    def __init__(self):
        self.archive = bytearray()
        self.inode = 0

    def add(self, name, mode, body=b"", device=(0, 0)):
        """Append one member; `name` is relative to the root, `mode` includes the file type."""
        # The trailer is a member too, but by convention carries inode 0.
        self.inode += 1
        encoded = name.encode() + b"\0"
        links = 2 if stat.S_ISDIR(mode) else 1
        fields = [self.inode, mode, 0, 0, links, 0, len(body), 0, 0, device[0], device[1], len(encoded), 0]
        self.archive += b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
        self._pad(ALIGNMENT)
        self.archive += body
        self._pad(ALIGNMENT)

    def directory(self, name):
        self.add(name, stat.S_IFDIR | 0o755)

    def file(self, name, body, permissions):
        self.add(name, stat.S_IFREG | permissions, body)

    def symlink(self, name, target):
        self.add(name, stat.S_IFLNK | 0o777, target.encode())

    def character_device(self, name, permissions, major, minor):
        self.add(name, stat.S_IFCHR | permissions, device=(major, minor))

    def finish(self):
        """The whole archive, padded to the 512 bytes that cpio's block size promises."""
        self.inode = -1
        self.add("TRAILER!!!", 0)
        self._pad(512)
        return bytes(self.archive)

    def _pad(self, alignment):
        self.archive += bytes(-len(self.archive) % alignment)


class ModuleTree:
    """The modules below one /lib/modules/VERSION directory."""

    def __init__(self, directory):
        self.paths = {}
        for path in sorted(directory.rglob("*.ko*")):
            self.paths[module_name(path)] = path
        builtin_list = directory / "modules.builtin"
        self.builtin = {module_name(pathlib.PurePath(line)) for line in builtin_list.read_text().splitlines()}

    def in_insertion_order(self, wanted):
        """(name, contents) of `wanted` and all they depend on, dependencies first."""
        ordered = {}

        def visit(name, needed_by):
            if name in self.builtin or name in ordered:
                return
            if name not in self.paths:
                sys.exit(f"mkinitramfs: {name}: no such module (needed by {needed_by})")
            contents = decompressed(self.paths[name])
            for dependency in dependencies(contents):
                visit(dependency, name)
            ordered[name] = contents

        for name in wanted:
            visit(name.replace("-", "_"), "the command line")
        return list(ordered.items())


def module_name(path):
    """The kernel's name of a module file: no directory, no suffix, underscores."""
    return path.name.split(".ko")[0].replace("-", "_")


def decompressed(path):
    data = path.read_bytes()
    if path.suffix == ".ko":
        return data
    if path.suffix == ".xz":
        import lzma

        return lzma.decompress(data)
    if path.suffix == ".gz":
        import gzip

        return gzip.decompress(data)
    sys.exit(f"mkinitramfs: {path}: cannot unpack this kind of module")


def dependencies(module):
    """The names in the `depends=` tag of a module's .modinfo section."""
    for tag in section(module, b".modinfo").split(b"\0"):
        if tag.startswith(b"depends="):
            names = tag.removeprefix(b"depends=").decode()
            return [name.replace("-", "_") for name in names.split(",") if name]
    return []


def section(elf, wanted):
    """The bytes of one section of a 64-bit little-endian ELF object."""
    table_offset, = struct.unpack_from("<Q", elf, 0x28)
    entry_size, count, names_index = struct.unpack_from("<HHH", elf, 0x3A)

    def header(index):
        name, _, _, _, offset, size = struct.unpack_from("<IIQQQQ", elf, table_offset + index * entry_size)
        return name, offset, size

    names_offset = header(names_index)[1]
    for index in range(count):
        name, offset, size = header(index)
        start = names_offset + name
        if elf[start : elf.index(b"\0", start)] == wanted:
            return elf[offset : offset + size]
    return b""


def build(arguments):
    cpio = CpioWriter()
    for name in DIRECTORIES:
        cpio.directory(name)
    # The kernel opens these two before devtmpfs is mounted.
    cpio.character_device("dev/console", 0o600, 5, 1)
    cpio.character_device("dev/null", 0o666, 1, 3)
    cpio.file("bin/busybox", arguments.busybox.read_bytes(), 0o755)
    cpio.symlink("bin/sh", "busybox")
    modules = ModuleTree(arguments.modules).in_insertion_order(arguments.module)
    for index, (name, contents) in enumerate(modules):
        cpio.file(f"lib/modules/{index:02}-{name}.ko", contents, 0o644)
    cpio.file("init", arguments.init.read_bytes(), 0o755)
    arguments.output.write_bytes(cpio.finish())
    return [name for name, _ in modules]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--busybox", type=pathlib.Path, default="/bin/busybox", help="a statically linked busybox")
    parser.add_argument("--init", type=pathlib.Path, required=True, help="script that becomes /init")
    parser.add_argument("--modules", type=pathlib.Path, required=True, help="a /lib/modules/VERSION directory")
    parser.add_argument("--module", action="append", default=[], help="module to carry; may be repeated")
    parser.add_argument("output", type=pathlib.Path)
    arguments = parser.parse_args()
    names = build(arguments)
    print(f"{arguments.output.name}: {arguments.output.stat().st_size} bytes, modules: {' '.join(names) or 'none'}")


if __name__ == "__main__":
    main()
