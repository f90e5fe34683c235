#!/usr/bin/env bash
# disk.img from the mount against the same bytes as a real file: 1 MiB in sequence and 4 KiB at random.
#
# warm      both from the page cache
# first     the mount's pages are dropped before each round, those of the source are kept; the real file is warm
# cold      the pages of the mount, of the source and of the real file are dropped before each round
# O_DIRECT  past the page cache; the source's is warm, the real file comes from the disk
#
#   read.sh [MIB]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHONPATH=benches PYTHONDONTWRITEBYTECODE=1 exec python3 - "${1:-256}" <<'PYTHON'
import mmap
import os
import random
import statistics
import sys

import timing

ROUNDS = 7
RANDOM_READS = 20_000
mib = int(sys.argv[1])
print(timing.machine())
buffer = mmap.mmap(-1, 1 << 20)


def sequential(fd, span):
    start, length = span
    for offset in range(start, start + length, 1 << 20):
        os.preadv(fd, [buffer], offset)


def at_random(fd, span, count):
    start, length = span
    chosen = random.Random(1)
    window = memoryview(buffer)[:4096]
    for _ in range(count):
        os.preadv(fd, [window], start + chosen.randrange(length // 4096) * 4096)


def drop(fd):
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def measure(fds, span, work, dropped):
    """Rounds alternate between the files, so that noise meets all of them."""
    times = {name: [] for name in fds}
    for fd in fds.values():
        work(fd, span)
    for _ in range(ROUNDS):
        for name, fd in fds.items():
            for each in dropped:
                drop(each)
            times[name].append(timing.seconds(lambda: work(fd, span)))
    return {name: statistics.median(found) for name, found in times.items()}


with timing.scratch() as (path, mountpoint):
    tree = os.path.join(path, "tree")
    os.mkdir(tree)
    with open(os.path.join(tree, "content"), "wb") as out:
        for _ in range(mib):
            out.write(os.urandom(1 << 20))
        os.fsync(out.fileno())
    timing.mount(timing.config(path, f"{mib + 256}MiB", tree), mountpoint)
    image, real = os.path.join(mountpoint, "disk.img"), os.path.join(path, "real.img")
    timing.run("cp", "--sparse=auto", image, real)
    # Clean pages are the ones that can be dropped.
    timing.run("sync", real)
    # The longest run of data is the file's.
    mounted, native = os.open(image, os.O_RDONLY), os.open(real, os.O_RDONLY)
    span, offset = (0, 0), 0
    size = os.stat(image).st_size
    while offset < size:
        try:
            start = os.lseek(mounted, offset, os.SEEK_DATA)
        except OSError:
            break
        offset = os.lseek(mounted, start, os.SEEK_HOLE)
        span = max(span, (start, offset - start), key=lambda found: found[1])
    span = (span[0] + 4095 & ~4095, (span[1] >> 20) - 1 << 20)
    cached = {"mount": mounted, "real file": native}
    direct = {
        name: os.open(file, os.O_RDONLY | os.O_DIRECT)
        for name, file in [("mount", image), ("real file", real)]
    }
    source = os.open(os.path.join(tree, "content"), os.O_RDONLY)
    states = [
        ("warm", cached, []),
        ("first", cached, [mounted]),
        ("cold", cached, [mounted, source, native]),
        ("O_DIRECT", direct, []),
    ]
    print(f"{span[1] >> 20} MiB; medians of {ROUNDS}")
    for title, fds, dropped in states:
        found = measure(fds, span, sequential, dropped)
        rates = {name: span[1] / 2**20 / seconds for name, seconds in found.items()}
        print(
            f"{title:9} 1 MiB in sequence: mount {rates['mount']:6.0f} MiB/s, real file {rates['real file']:6.0f} MiB/s,"
            f" ratio {rates['mount'] / rates['real file']:.2f}"
        )
        count = RANDOM_READS if title == "warm" else RANDOM_READS // 20
        found = measure(fds, span, lambda fd, span: at_random(fd, span, count), dropped)
        rates = {name: count / seconds for name, seconds in found.items()}
        print(
            f"{title:9} 4 KiB at random:   mount {rates['mount']:6.0f} /s,    real file {rates['real file']:6.0f} /s,"
            f"    ratio {rates['mount'] / rates['real file']:.2f}"
        )
    for fd in [*cached.values(), *direct.values(), source]:
        os.close(fd)
    timing.unmount(mountpoint)
PYTHON
