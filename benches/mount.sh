#!/usr/bin/env bash
# From the command `miragefs mount` to the first byte of each image of examples/lab. Target: below 100 ms.
#
#   mount.sh [ROUNDS]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
examples/lab/prepare.sh >/dev/null
PYTHONPATH=benches PYTHONDONTWRITEBYTECODE=1 exec python3 - "${1:-15}" <<'PYTHON'
import os
import statistics
import sys

import timing

rounds = int(sys.argv[1])
print(timing.machine())
with timing.scratch() as (path, mountpoint):
    for name in ["disk.img", "disk.vmdk", "boot.ova"]:

        def first_byte():
            timing.mount("examples/lab/lab.toml", mountpoint)
            with open(os.path.join(mountpoint, name), "rb", buffering=0) as image:
                image.read(1)

        times = []
        for _ in range(rounds):
            times.append(timing.seconds(first_byte) * 1000)
            timing.unmount(mountpoint)
        low, middle, high = min(times), statistics.median(times), max(times)
        print(f"{name:10} first byte {middle:6.1f} ms after the command (median of {rounds}; {low:.1f} to {high:.1f})")
PYTHON
