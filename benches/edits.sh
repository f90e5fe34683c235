#!/usr/bin/env bash
# How much of an image moves when one file of its source changes: 4 KiB blocks of disk.img that differ after one edit,
# with slack and dense, beside `mke2fs -d` on the same tree. Prints a table in Markdown.
#
#   edits.sh [TREE...]    default: /usr/share /usr/lib
#
# EDITS    how many edits, a third each of growing a file by a block, adding a file, deleting one; default 60
# MKE2FS   for how many of them mke2fs makes an image too; default all. It takes several times as long.
#
# The work is done on a copy below TMPDIR; that and four images take five times the size of the tree there. In memory
# (TMPDIR=/dev/shm) mke2fs does not wait for a disk.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH=$PATH:/usr/sbin:/sbin
[ $# -gt 0 ] || set -- /usr/share /usr/lib
PYTHONPATH=benches PYTHONDONTWRITEBYTECODE=1 exec python3 - "$@" <<'PYTHON'
import contextlib
import mmap
import os
import random
import shutil
import statistics
import subprocess
import sys

import timing

BLOCK = 4096
CHUNK = 1 << 20
KINDS = ["grow by a block", "add a file", "delete a file"]
EDITS = int(os.environ.get("EDITS", "60"))
MKE2FS = int(os.environ.get("MKE2FS", str(EDITS)))
UUID = "00000000-0000-0000-0000-000000000007"
ZEROS = bytes(CHUNK)


def differing(ours, theirs):
    """Blocks of two equally long pieces that differ."""
    if ours == theirs:
        return 0
    return sum(ours[at : at + BLOCK] != theirs[at : at + BLOCK] for at in range(0, len(ours), BLOCK))


def filled(piece):
    """Blocks of a piece that are not all zeros."""
    if piece == ZEROS[: len(piece)]:
        return 0
    return differing(piece, ZEROS[: len(piece)])


def pieces_of_command(command):
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        while piece := process.stdout.read(CHUNK):
            yield piece
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, command)


def pieces_of_file(path):
    """Holes are not read: most of an image may be one."""
    size = os.stat(path).st_size
    with open(path, "rb", buffering=0) as image:
        for at in range(0, size, CHUNK):
            length = min(CHUNK, size - at)
            try:
                data = os.lseek(image.fileno(), at, os.SEEK_DATA)
            except OSError:
                data = size
            yield os.pread(image.fileno(), length, at) if data < at + length else ZEROS[:length]


class Layout:
    """Something that makes an image of the tree; the first one is kept to compare the others with."""

    def __init__(self, name, base, pieces):
        self.name, self.base, self.pieces = name, base, pieces
        self.blocks = 0
        self.moved = {kind: [] for kind in KINDS}

    def keep(self):
        with open(self.base, "wb") as out:
            for piece in self.pieces():
                blocks = filled(piece)
                self.blocks += blocks
                if blocks:
                    out.write(piece)
                else:
                    out.seek(len(piece), os.SEEK_CUR)
            out.truncate()

    def count(self):
        """Blocks of the tree's image now that differ from the one that was kept."""
        with open(self.base, "rb") as image, mmap.mmap(image.fileno(), 0, prot=mmap.PROT_READ) as base:
            moved = at = 0
            for piece in self.pieces():
                moved += differing(piece, base[at : at + len(piece)])
                at += len(piece)
            return moved


def miragefs(path, tree, size, slack_bits):
    name = os.path.join(path, f"{slack_bits}.toml")
    key = "" if slack_bits is None else f"slack-bits = {slack_bits}\n"
    with open(name, "w") as out:
        out.write(
            f'name = "edits"\n[disk]\nsize = {size}\ntable = "none"\n[[partition]]\nlabel = "data"\n'
            f'copy = [ {{ from = "{tree}", sparse = "never" }} ]\n[partition.ext4]\n{key}'
        )
    return name


def has_slack_bits(path, tree, size):
    check = [timing.PROGRAM, "check", miragefs(path, tree, size, 0)]
    result = subprocess.run(check, capture_output=True, text=True)
    if result.returncode == 0:
        return True
    if "slack-bits" in result.stderr:
        print("this miragefs has no key slack-bits: no dense layout to compare with")
        return False
    sys.exit(result.stderr)


def mke2fs(path, tree, size):
    image = os.path.join(path, "mke2fs.img")
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "946684800", "E2FSPROGS_FAKE_TIME": "946684800"}
    with contextlib.suppress(FileNotFoundError):
        os.remove(image)
    subprocess.run(
        ["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-d", tree, "-U", UUID]
        + ["-E", f"hash_seed={UUID},lazy_itable_init=1", image, str(size // BLOCK)],
        check=True,
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    yield from pieces_of_file(image)


class Edits:
    """Edits that are undone when they have been looked at."""

    def __init__(self, tree, aside):
        self.tree, self.aside = tree, aside
        self.random = random.Random(7)
        self.files, self.directories = [], []
        for directory, names, files in sorted(os.walk(tree)):
            self.directories.append(directory)
            for name in sorted(files):
                path = os.path.join(directory, name)
                if os.path.isfile(path) and not os.path.islink(path) and os.stat(path).st_nlink == 1:
                    self.files.append(path)

    @contextlib.contextmanager
    def edit(self, kind):
        path = self.random.choice(self.files)
        size = os.stat(path).st_size
        if kind == "add a file":
            # As long as one that is there.
            path = os.path.join(self.random.choice(self.directories), f"new-{self.random.randrange(10**6)}")
        directory = os.path.dirname(path)
        before = os.stat(directory)
        times = os.stat(path) if kind == "grow by a block" else None
        if kind == "add a file":
            with open(path, "wb") as out:
                out.write(self.random.randbytes(size))
        elif kind == "delete a file":
            os.rename(path, self.aside)
        else:
            with open(path, "ab") as out:
                out.write(self.random.randbytes(BLOCK))
        yield
        if kind == "add a file":
            os.remove(path)
        elif kind == "delete a file":
            os.rename(self.aside, path)
        else:
            os.truncate(path, size)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        os.utime(directory, ns=(before.st_atime_ns, before.st_mtime_ns))


def measure(source, path):
    tree = os.path.join(path, "tree")
    subprocess.run(["cp", "-a", "--reflink=auto", source, tree], check=True)
    edits = Edits(tree, os.path.join(path, "aside"))
    used = int(subprocess.run(["du", "-s", "--block-size=1", tree], check=True, capture_output=True).stdout.split()[0])
    # Room for the slack, the journal and inodes; mke2fs gets the same.
    size = (used * 5 // 4 // (64 << 20) + 4) * (64 << 20)
    layouts = []
    options = [("miragefs", None)]
    if has_slack_bits(path, tree, size):
        options = [("miragefs", 6), ("miragefs, slack-bits = 0", 0)]
    for name, bits in options:
        export = [timing.PROGRAM, "export", miragefs(path, tree, size, bits), "disk.img", "-"]
        layouts.append(Layout(name, os.path.join(path, f"{bits}.img"), lambda export=export: pieces_of_command(export)))
    theirs = Layout("`mke2fs -d`", os.path.join(path, "mke2fs-base.img"), lambda: mke2fs(path, tree, size))
    if MKE2FS:
        # Read once, no file has a time of last access that another read would change.
        for _ in theirs.pieces():
            pass
        layouts.append(theirs)
    for layout in layouts:
        layout.keep()
        noise = layout.count()
        print(f"{layout.name}: {layout.blocks} blocks with data, {noise} differ without an edit", flush=True)
    for index in range(EDITS):
        kind = KINDS[index % len(KINDS)]
        with edits.edit(kind):
            for layout in layouts:
                if layout is not theirs or index < MKE2FS:
                    layout.moved[kind].append(layout.count())
    report(source, len(edits.files), layouts)


def report(source, files, layouts):
    print(f"\n`{source}`: {files} files, {layouts[0].blocks * BLOCK / 2**20:.0f} MiB of blocks with data\n")
    print("| edit | image of | edits | differs: mean | median | most | mean of all blocks | median of all |")
    print("|---|---|---|---|---|---|---|---|")
    for kind in [*KINDS, "all"]:
        for layout in layouts:
            moved = layout.moved.get(kind) or sum(layout.moved.values(), [])
            if not moved:
                continue
            mean, median = statistics.mean(moved), statistics.median(moved)
            sizes = [f"{value * BLOCK / 2**20:.2f} MiB" for value in (mean, median, max(moved))]
            shares = [f"{value / layout.blocks * 100:.2f} %" for value in (mean, median)]
            print(f"| {kind} | {layout.name} | {len(moved)} | {' | '.join(sizes + shares)} |")
    print(flush=True)


print(timing.machine())
for source in sys.argv[1:]:
    with timing.scratch() as (path, _):
        if shutil.disk_usage(path).free < 16 << 30:
            print("less than 16 GiB are free", file=sys.stderr)
        measure(source, path)
PYTHON
