#!/usr/bin/env bash
# A disk of 1 TiB with 20 MB of content: mounting it, copying it with its holes, and what memory that took.
# Targets: seconds for the copy, well under a second for the mount, below 64 MiB plus the cache (32 MiB).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHONPATH=benches PYTHONDONTWRITEBYTECODE=1 exec python3 - <<'PYTHON'
import os
import statistics

import timing

ROUNDS = 5
print(timing.machine())
with timing.scratch() as (path, mountpoint):
    tree = os.path.join(path, "tree")
    os.mkdir(tree)
    with open(os.path.join(tree, "content"), "wb") as out:
        out.write(os.urandom(20_000_000))
    config = timing.config(path, "1TiB", tree)
    mounts, copies, peaks = [], [], []
    for _ in range(ROUNDS):
        mounts.append(timing.seconds(lambda: timing.mount(config, mountpoint)))
        image, copy = os.path.join(mountpoint, "disk.img"), os.path.join(path, "copy.img")
        copies.append(timing.seconds(lambda: timing.run("cp", "--sparse=auto", image, copy)))
        allocated = os.stat(copy).st_blocks * 512
        peaks.append(timing.peak_mib(timing.daemon(mountpoint)))
        os.remove(copy)
        timing.unmount(mountpoint)
    print(f"medians of {ROUNDS}")
    print(f"mount            {statistics.median(mounts) * 1000:7.1f} ms")
    print(f"cp --sparse=auto {statistics.median(copies) * 1000:7.1f} ms, copy holds {allocated / 2**20:.1f} MiB")
    print(f"peak memory      {max(peaks):7.1f} MiB")
PYTHON
