#!/usr/bin/env bash
# A tree of many small files: `miragefs check` and `miragefs mount` against the wall time of `find -printf` over it,
# all with warm caches. Target: at most 3 times find.
#
#   tree.sh [FILES]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHONPATH=benches PYTHONDONTWRITEBYTECODE=1 exec python3 - "${1:-100000}" <<'PYTHON'
import os
import subprocess
import sys

import timing

ROUNDS = 5
files = int(sys.argv[1])
print(timing.machine())
with timing.scratch() as (path, mountpoint):
    tree = os.path.join(path, "tree")
    for directory in range(files // 100):
        name = os.path.join(tree, f"d{directory // 100:02}", f"d{directory % 100:02}")
        os.makedirs(name)
        for file in range(100):
            with open(os.path.join(name, f"file-{file:02}.txt"), "w") as out:
                out.write(f"{directory} {file}\n")
    config = timing.config(path, "8GiB", tree)

    def find():
        timing.run("find", tree, "-printf", r"%p %y %m %U:%G %s %T@ %n %i\n")

    def mount():
        timing.mount(config, mountpoint)

    def mount_and_unmount():
        seconds = timing.seconds(mount)
        timing.unmount(mountpoint)
        return seconds

    find()
    mount_and_unmount()
    found = timing.median(ROUNDS, find)
    print(f"{files} files; medians of {ROUNDS}")
    print(f"find -printf     {found * 1000:7.0f} ms")
    check = [timing.PROGRAM, "check", config]
    if subprocess.run(check, capture_output=True).returncode == 0:
        checked = timing.median(ROUNDS, lambda: timing.run(*check))
        print(f"miragefs check   {checked * 1000:7.0f} ms, {checked / found:.2f} times find")
    else:
        print("miragefs check   failed")
    mounted = sorted(mount_and_unmount() for _ in range(ROUNDS))[ROUNDS // 2]
    print(f"miragefs mount   {mounted * 1000:7.0f} ms, {mounted / found:.2f} times find")
    mount()
    print(f"peak memory      {timing.peak_mib(timing.daemon(mountpoint)):7.1f} MiB after the mount")
    timing.unmount(mountpoint)
PYTHON
