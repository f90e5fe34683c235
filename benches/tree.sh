#!/usr/bin/env bash
# Trees of many small files: `miragefs check`, `miragefs mount` to the first byte and `mke2fs -d`, against the wall time
# of `find -printf` over the same tree, with warm caches; and the most memory that each took. Prints tables in Markdown.
# Targets: at most 2.5 times find, and below 300 MiB for 1,000,000 files.
#
#   tree.sh [FILES...]    default: 10000 100000
#
# ROUNDS is how often each command runs (default 5, mke2fs once for each three); medians are shown. A tree of 1,000,000
# files takes 4 GB and as many inodes below TMPDIR, and mke2fs as much again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH=$PATH:/usr/sbin:/sbin
[ $# -gt 0 ] || set -- 10000 100000
PYTHONPATH=benches PYTHONDONTWRITEBYTECODE=1 exec python3 - "$@" <<'PYTHON'
import os
import statistics
import subprocess
import sys
import time

import timing

ROUNDS = int(os.environ.get("ROUNDS", "5"))
PER_DIRECTORY = 100


def make(tree, files):
    """Files of about ten bytes in directories of 100, those in directories of 100."""
    for first in range(0, files, PER_DIRECTORY):
        directory = first // PER_DIRECTORY
        name = os.path.join(tree, f"d{directory // 100:03}", f"d{directory % 100:02}")
        os.makedirs(name)
        for file in range(min(PER_DIRECTORY, files - first)):
            out = os.open(os.path.join(name, f"file-{file:02}.txt"), os.O_WRONLY | os.O_CREAT, 0o644)
            os.write(out, b"%d %d\n" % (directory, file))
            os.close(out)


def has_room(path, files):
    """A block for each file, and again for each in the image that mke2fs makes."""
    room = os.statvfs(path)
    return room.f_favail > files * 1.1 and room.f_bavail * room.f_frsize > files * 10_000 + (1 << 30)


def seconds_and_mib(*command):
    """Wall time of a command and the most memory that it took. GNU time starts it: a process that python starts counts
    python's own memory too, which it has until it runs its program.
    """
    start = time.perf_counter()
    timed = ["/usr/bin/time", "--format=%M", "--output=/dev/fd/1", "sh", "-c", '"$@" >/dev/null', "sh", *command]
    result = subprocess.run(timed, stdout=subprocess.PIPE, check=True)
    return time.perf_counter() - start, int(result.stdout) / 1024


def mount_to_first_byte(config, mountpoint):
    start = time.perf_counter()
    timing.mount(config, mountpoint)
    with open(os.path.join(mountpoint, "disk.img"), "rb", buffering=0) as image:
        image.read(1)
    elapsed = time.perf_counter() - start
    peak = timing.peak_mib(timing.daemon(mountpoint))
    timing.unmount(mountpoint)
    return elapsed, peak


def median(rounds, work):
    """Medians of time and memory, after a round that warms the caches."""
    work()
    found = [work() for _ in range(rounds)]
    return tuple(statistics.median(column) for column in zip(*found))


def measure(path, mountpoint, files):
    tree = os.path.join(path, "tree")
    make(tree, files)
    size = (files * 5000 // (1 << 30) + 1) << 30
    config = timing.config(path, str(size + (1 << 20)), tree)
    image = os.path.join(path, "mke2fs.img")

    def find():
        return seconds_and_mib("find", tree, "-printf", r"%p %y %m %U:%G %s %T@ %n %i\n")

    def check():
        return seconds_and_mib(timing.PROGRAM, "check", config)

    def mke2fs():
        blocks = str(size // 4096)
        options = ["-q", "-F", "-t", "ext4", "-b", "4096", "-N", str(int(files * 1.2) + 1000)]
        found = seconds_and_mib("mke2fs", *options, "-d", tree, image, blocks)
        os.remove(image)
        return found

    rows = [
        ("`find -printf`", median(ROUNDS, find)),
        ("`miragefs check`", median(ROUNDS, check)),
        ("`miragefs mount` to the first byte", median(ROUNDS, lambda: mount_to_first_byte(config, mountpoint))),
        ("`mke2fs -d`", median(max(1, ROUNDS // 3), mke2fs)),
    ]
    found = rows[0][1][0]
    print(f"\n{files:,} files\n")
    print("| command | time | times find | peak memory |")
    print("|---|---|---|---|")
    for name, (elapsed, mib) in rows:
        print(f"| {name} | {elapsed * 1000:,.0f} ms | {elapsed / found:.2f} | {mib:.1f} MiB |", flush=True)


print(timing.machine())
for files in map(int, sys.argv[1:]):
    with timing.scratch() as (path, mountpoint):
        if has_room(path, files):
            measure(path, mountpoint, files)
        else:
            print(f"{files:,} files: not enough space or inodes in {path}", file=sys.stderr)
PYTHON
