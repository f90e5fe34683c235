"""What the scripts beside it share: mounts that go away, medians, and the machine in a line."""

import contextlib
import os
import platform
import statistics
import subprocess
import tempfile
import time

PROGRAM = os.environ.get("MIRAGEFS", "target/release/miragefs")


def machine():
    with open("/proc/cpuinfo") as cpuinfo:
        cpus = sum(line.startswith("processor") for line in cpuinfo)
    with open("/proc/meminfo") as meminfo:
        kib = int(meminfo.readline().split()[1])
    load = os.getloadavg()[0]
    return f"{cpus} CPUs, {kib / 2**20:.1f} GiB, Linux {platform.release()}, load {load:.1f} at the start"


def seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def median(count, work):
    return statistics.median(seconds(work) for _ in range(count))


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def mount(config, mountpoint, *options):
    run(PROGRAM, "mount", *options, config, mountpoint)


def unmount(mountpoint):
    run(PROGRAM, "unmount", mountpoint)


@contextlib.contextmanager
def scratch():
    """A directory with an empty `mnt` in it."""
    with tempfile.TemporaryDirectory(prefix="miragefs-bench.") as path:
        mountpoint = os.path.join(path, "mnt")
        os.mkdir(mountpoint)
        try:
            yield path, mountpoint
        finally:
            if os.path.ismount(mountpoint):
                unmount(mountpoint)


def daemon(mountpoint):
    """The process that serves a background mount."""
    wanted = os.fsencode(mountpoint)
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{entry}/cmdline", "rb") as cmdline:
                words = cmdline.read().split(b"\0")
            if b"--readiness-pipe" in words and wanted in words:
                return int(entry)
    raise ProcessLookupError(mountpoint)


def peak_mib(pid):
    with open(f"/proc/{pid}/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    raise ValueError(pid)


def config(path, size, source):
    """A config of one partition over one directory."""
    name = os.path.join(path, "bench.toml")
    with open(name, "w") as out:
        out.write(
            f'name = "bench"\n[disk]\nsize = "{size}"\nboot-code = "none"\n'
            f'[[partition]]\nlabel = "data"\nsize = "rest"\n'
            f'copy = [ {{ from = "{source}", to = "/" }} ]\n'
        )
    return name
