#!/usr/bin/env bash
# Compressed images: the time until the index of a deflate OVA is complete, beside what others take to make a compressed
# VMDK of the same disk; the same once more, and with a file touched; and reading the OVA from the mount, beside a stored
# one. Prints tables in Markdown.
#
#   deflate.sh [TREE...]    default: /usr/bin /usr/share
#
# index       `miragefs explain` with an empty cache directory, which like `mount --wait` scans, plans, and compresses all
#             grains once
# export      `miragefs export` with an empty cache directory: the same, and the OVA as a real file
# qemu-img    `qemu-img convert -O vmdk -o subformat=streamOptimized` of disk.img as a real file, to a real file
# VMware's    `vmdk-convert -c LEVEL` (MIRAGEFS_VMDK_CONVERT) of disk.vmdk as a real file, to a real file
#
# ROUNDS is how often each runs (3), in turn, so that noise meets all of them; medians are shown. LEVELS: 1 6 12. The work is
# done on a copy below TMPDIR, sources and inputs in the page cache; it takes five times the size of the tree there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ $# -gt 0 ] || set -- /usr/bin /usr/share
PYTHONPATH=benches PYTHONDONTWRITEBYTECODE=1 exec python3 - "$@" <<'PYTHON'
import contextlib
import mmap
import os
import resource
import shutil
import statistics
import subprocess
import sys
import threading
import time

import timing

ROUNDS = int(os.environ.get("ROUNDS", "3"))
LEVELS = [int(level) for level in os.environ.get("LEVELS", "1 6 12").split()]
CONVERT = os.environ.get("MIRAGEFS_VMDK_CONVERT")
MIB = 1 << 20
buffer = mmap.mmap(-1, MIB)


def copy_trees(trees, into):
    """Bytes of the files of a copy of the trees; what cannot be read is left out."""
    for number, tree in enumerate(trees):
        target = os.path.join(into, f"{number}-{os.path.basename(tree.rstrip('/'))}")
        copied = subprocess.run(["cp", "-a", tree, target], stderr=subprocess.DEVNULL, check=False)
        if copied.returncode != 0:
            print(f"{tree}: not all of it could be copied", file=sys.stderr)
    total = 0
    for at, _, names in os.walk(into):
        for name in names:
            path = os.path.join(at, name)
            if os.path.isfile(path) and not os.path.islink(path):
                total += os.path.getsize(path)
                with open(path, "rb") as file:
                    while file.readinto(buffer):
                        pass
    return total


def write_config(path, tree, size, level):
    name = os.path.join(path, f"level-{level}.toml")
    with open(name, "w") as out:
        out.write(
            f'name = "bench"\nsource-date-epoch = 1700000000\n[disk]\nsize = "{size}MiB"\nboot-code = "none"\n'
            f'[[partition]]\nlabel = "data"\nsize = "rest"\ncopy = [ {{ from = "{tree}", to = "/", owner = "0:0" }} ]\n'
            f'[images]\n"disk.img" = {{ format = "raw" }}\n"disk.vmdk" = {{ format = "vmdk" }}\n'
            f'"stored.ova" = {{ format = "ova" }}\n'
            f'"deflate.ova" = {{ format = "ova", compression = "deflate", level = {level} }}\n'
        )
    return name


def timed(*command):
    """Wall time of a command, and the CPU time of all its threads."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    elapsed = timing.seconds(lambda: timing.run(*command))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return elapsed, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def written(target, *command):
    """Times of a command that writes `target`, and that file's size; the file goes."""
    times = timed(*command)
    size = os.path.getsize(target)
    os.remove(target)
    return *times, size


class Bench:
    def __init__(self, path, mountpoint, tree, size):
        self.path, self.mountpoint, self.tree = path, mountpoint, tree
        self.configs = {level: write_config(path, tree, size, level) for level in LEVELS}
        self.raw, self.vmdk = os.path.join(path, "disk.img"), os.path.join(path, "disk.vmdk")
        config = self.configs[LEVELS[0]]
        for image in (self.raw, self.vmdk):
            timing.run(timing.PROGRAM, "export", config, os.path.basename(image), image)
        self.touched = 0
        self.found = {}

    def cache(self, level):
        return os.path.join(self.path, f"cache-{level}")

    def note(self, row, found):
        self.found.setdefault(row, []).append(found)

    def index(self, level):
        shutil.rmtree(self.cache(level), ignore_errors=True)
        os.environ["XDG_CACHE_HOME"] = self.cache(level)
        explain = (timing.PROGRAM, "explain", self.configs[level], "deflate.ova", "0")
        first = timed(*explain)
        # The index is there: no grain is compressed for a size.
        self.mount(level)
        size = os.path.getsize(os.path.join(self.mountpoint, "deflate.ova"))
        self.unmount()
        self.note(f"index, level {level}", (*first, size))
        self.note(f"index, level {level}, once more", (*timed(*explain), size))
        self.touch()
        self.note(f"index, level {level}, one file touched", (*timed(*explain), size))

    def mount(self, level):
        options = ["--wait", "--cache-size", "32MiB", "--log", os.path.join(self.path, "log")]
        timing.mount(self.configs[level], self.mountpoint, *options)

    def unmount(self):
        """Also waits for the daemon, which holds the index to its end."""
        timing.unmount(self.mountpoint)
        with contextlib.suppress(ProcessLookupError):
            while timing.daemon(self.mountpoint):
                time.sleep(0.01)

    def touch(self):
        """Of some file of about 100 KB the time changes, as an editor does it."""
        for at, _, names in os.walk(self.tree):
            for name in sorted(names):
                path = os.path.join(at, name)
                if os.path.isfile(path) and not os.path.islink(path) and 80_000 < os.path.getsize(path) < 120_000:
                    self.touched += 1
                    os.utime(path, (self.touched, self.touched))
                    return
        raise FileNotFoundError("a file of about 100 KB")

    def export(self, level):
        os.environ["XDG_CACHE_HOME"] = os.path.join(self.path, "cache-of-export")
        target = os.path.join(self.path, "exported.ova")
        found = written(target, timing.PROGRAM, "export", self.configs[level], "deflate.ova", target)
        shutil.rmtree(os.environ["XDG_CACHE_HOME"])
        self.note(f"`miragefs export`, level {level}", found)

    def others(self):
        target = os.path.join(self.path, "converted.vmdk")
        options = ["-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized"]
        self.note("`qemu-img convert`", written(target, "qemu-img", "convert", *options, self.raw, target))
        for level in LEVELS if CONVERT else []:
            if level <= 9:
                found = written(target, CONVERT, "-c", str(level), self.vmdk, target)
                self.note(f"VMware's `vmdk-convert`, level {level}", found)

    def medians(self):
        return {row: tuple(map(statistics.median, zip(*found))) for row, found in self.found.items()}


def read(fd, start, end):
    buffer = mmap.mmap(-1, MIB)
    for offset in range(start, end, MIB):
        os.preadv(fd, [buffer], offset)


def read_by_two(fd, start, end):
    middle = (start + end) // 2
    other = threading.Thread(target=read, args=(fd, middle, end))
    other.start()
    read(fd, start, middle)
    other.join()


def read_no_further(fd, start, end):
    """The kernel reads nothing ahead, whose compression would be waited for too."""
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    read(fd, start, end)


def rates(bench, level):
    """MiB/s of the file itself; the pages that the kernel has of it are dropped before each pass."""
    os.environ["XDG_CACHE_HOME"] = bench.cache(level)
    found = {}
    for _ in range(ROUNDS):
        for image in ("stored.ova", "deflate.ova"):
            bench.mount(level)
            fd = os.open(os.path.join(bench.mountpoint, image), os.O_RDONLY)
            size = os.fstat(fd).st_size
            for what, start, end, work in [
                ("front to back", 0, size, read),
                ("front to back again", 0, size, read),
                ("by two readers, half of it each", 0, size, read_by_two),
                ("4 MiB of it", size // 4, size // 4 + 4 * MIB, read_no_further),
                ("the same 4 MiB again", size // 4, size // 4 + 4 * MIB, read_no_further),
            ]:
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                elapsed = timing.seconds(lambda: work(fd, start, end))
                found.setdefault(what, {}).setdefault(image, []).append((end - start) / MIB / elapsed)
            os.close(fd)
            bench.unmount()
    return found


def report(bench, level_of_reads):
    medians = bench.medians()
    base = medians["`qemu-img convert`"][0]
    print("\n| what | time | times qemu-img | CPU time | size |\n|---|---|---|---|---|")
    for row, (elapsed, cpu, size) in medians.items():
        print(f"| {row} | {elapsed:,.2f} s | {elapsed / base:.2f} | {cpu:,.2f} s | {size / MIB:,.1f} MiB |")
    print(f"\n| read from the mount | stored | deflate, level {level_of_reads} | ratio |\n|---|---|---|---|")
    for what, images in rates(bench, level_of_reads).items():
        stored, deflate = (statistics.median(images[image]) for image in ("stored.ova", "deflate.ova"))
        print(f"| {what} | {stored:,.0f} MiB/s | {deflate:,.0f} MiB/s | {deflate / stored:.2f} |")


print(timing.machine())
with timing.scratch() as (path, mountpoint):
    tree = os.path.join(path, "tree")
    os.mkdir(tree)
    total = copy_trees(sys.argv[1:], tree)
    bench = Bench(path, mountpoint, tree, total * 5 // 4 // MIB + 512)
    print(f"{total / MIB:,.0f} MiB in files of {', '.join(sys.argv[1:])}; medians of {ROUNDS}", flush=True)
    for number in range(ROUNDS):
        for level in LEVELS:
            bench.index(level)
        bench.export(LEVELS[len(LEVELS) // 2])
        bench.others()
    report(bench, LEVELS[len(LEVELS) // 2])
PYTHON
