#!/usr/bin/env bash
# How long a mount takes to plan again after one edit, by its own log, for trees of many small files; the time until
# things have come to rest (100 ms) comes before that. Prints a table in Markdown.
# Targets for 100,000 files: below 50 ms after an edit of the config, below 100 ms after one file was touched.
#
#   replan.sh [FILES...]    default: 10000 100000
#
# ROUNDS is how often each edit is made (default 7); medians are shown, and the slowest behind them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ $# -gt 0 ] || set -- 10000 100000
PYTHONPATH=benches PYTHONDONTWRITEBYTECODE=1 exec python3 - "$@" <<'PYTHON'
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

import timing

ROUNDS = int(os.environ.get("ROUNDS", "7"))
CONFIG = """name = "again"
[disk]
size = "{size}MiB"
boot-code = "none"
[vm]
memory = {memory}
[[partition]]
label = "boot"
size = "64MiB"
files = [ {{ path = "/small", text = "{small}" }} ]
[[partition]]
label = "data"
size = "rest"
copy = [ {{ from = "src", to = "/src" }} ]
files = [ {{ path = "/beside", text = "{beside}" }} ]
"""
PLANNED = re.compile(r"planned again in ([0-9.]+) ms")


def make(tree, files):
    """Files of about ten bytes in directories of 100, those in directories of 100."""
    for first in range(0, files, 100):
        directory = first // 100
        name = os.path.join(tree, f"d{directory // 100:03}", f"d{directory % 100:02}")
        os.makedirs(name)
        for file in range(min(100, files - first)):
            with open(os.path.join(name, f"file-{file:02}.txt"), "w") as out:
                out.write(f"{directory} {file}\n")


class Mount:
    """A mount whose log tells how long planning takes."""

    def __init__(self, directory, files):
        self.directory = directory
        self.values = {"size": 256 + files // 100, "memory": 1 << 30, "small": "a", "beside": "a"}
        self.config = os.path.join(directory, "lab.toml")
        self.mountpoint = os.path.join(directory, "images")
        self.log = os.path.join(directory, "log")
        os.mkdir(self.mountpoint)
        make(os.path.join(directory, "src"), files)
        self.write()
        environment = dict(os.environ, MIRAGEFS_LOG="debug")
        command = [timing.PROGRAM, "mount", "--log", self.log, self.config, self.mountpoint]
        subprocess.run(command, check=True, env=environment)
        # After the first watch everything is looked at once more.
        self.wait(0)

    def write(self):
        with open(self.config, "w") as out:
            out.write(CONFIG.format(**self.values))

    def times(self):
        with open(self.log) as log:
            return [float(found) for found in PLANNED.findall(log.read())]

    def wait(self, known):
        """The time of the plan after those that are known, once no other follows it."""
        deadline = time.monotonic() + 30
        while len(self.times()) <= known:
            if time.monotonic() > deadline:
                raise SystemExit("the mount did not plan again")
            time.sleep(0.01)
        time.sleep(0.4)
        return self.times()[known]

    def measure(self, edit):
        times = []
        for round in range(ROUNDS):
            known = len(self.times())
            edit(self, round)
            times.append(self.wait(known))
        return times

    def file(self, name):
        return os.path.join(self.directory, "src", "d000", "d07", name)


def set_value(key, value):
    def edit(mount, round):
        mount.values[key] = value(round)
        mount.write()

    return edit


def touch(mount, round):
    with open(mount.file("file-03.txt"), "w") as out:
        out.write("x" * (round + 1))


def add(mount, round):
    open(mount.file(f"new-{round}"), "w").close()


def delete(mount, round):
    os.remove(mount.file(f"new-{round}"))


EDITS = [
    ("`[vm] memory`", set_value("memory", lambda round: (round + 2) << 30)),
    ("a file of the config, in another partition", set_value("small", lambda round: "b" * (round + 1))),
    ("a file of the config, beside the tree", set_value("beside", lambda round: "b" * (round + 1))),
    ("one file written", touch),
    ("one file added", add),
    ("one file deleted", delete),
]

print("| files | edit | planned again in (median, slowest) |")
print("|---:|---|---:|")
for files in map(int, sys.argv[1:]):
    with tempfile.TemporaryDirectory() as directory:
        mount = Mount(os.path.realpath(directory), files)
        try:
            for name, edit in EDITS:
                times = mount.measure(edit)
                print(f"| {files:,} | {name} | {statistics.median(times):.1f} ms, {max(times):.1f} ms |", flush=True)
        finally:
            subprocess.run([timing.PROGRAM, "unmount", mount.mountpoint], check=True)
PYTHON
