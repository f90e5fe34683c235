"""How fast a mount is read, beside servers that compose nothing, other FUSE servers of the same image, and the kernel.

One run measures everything: in each round every subject is read once, so that noise meets all of them. "cold" is a file whose
pages the kernel does not have, while what it is made from is in the page cache; the first pass of each subject is not counted.

  read_path.py [--quick] [--write] [--rounds N]

--quick  small disks and one round, to see that it runs
--write  put the tables into docs/performance.md, and the picture beside it
"""

import contextlib
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time

import timing

HERE = os.path.dirname(os.path.abspath(__file__))
READER = os.environ.get("READ_PATH", "target/release/examples/read_path")
QUICK = "--quick" in sys.argv
ROUNDS = int(sys.argv[sys.argv.index("--rounds") + 1]) if "--rounds" in sys.argv else (1 if QUICK else 7)
MIB = 32 if QUICK else 256
FILES = 2_000 if QUICK else 100_000
COLD_READS = 500 if QUICK else 10_000
WARM_READS = 5_000 if QUICK else 100_000


class Server:
    """Processes whose CPU time counts, and a mount to take away."""

    def __init__(self, name, path, processes, mountpoint=None):
        self.name, self.path, self.processes, self.mountpoint = name, path, processes, mountpoint

    def cpu(self):
        if self.name == "xmount":
            # Its threads come and go; ticks count those that are gone, too.
            with open(f"/proc/{self.processes[0]}/stat") as text:
                fields = text.read().rsplit(")", 1)[1].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        nanoseconds = 0
        for pid in self.processes:
            with contextlib.suppress(OSError):
                for task in os.listdir(f"/proc/{pid}/task"):
                    with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/schedstat") as text:
                        nanoseconds += int(text.read().split()[0])
        return nanoseconds / 1e9


def wait_for(path):
    for _ in range(1000):
        if os.path.exists(path) and os.stat(path).st_size > 0:
            return
        time.sleep(0.01)
    raise TimeoutError(path)


@contextlib.contextmanager
def started(name, command, path, mountpoint, more=()):
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(path)
        # xmount goes into the background by itself.
        served_by = process_of(mountpoint) if name == "xmount" else child.pid
        yield Server(name, path, [served_by, *more], mountpoint)
    finally:
        subprocess.run(["umount", "-l", mountpoint], stderr=subprocess.DEVNULL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(3)
        if child.poll() is None:
            child.terminate()
            child.wait(10)


def directory(path, name):
    made = os.path.join(path, name)
    os.mkdir(made)
    return made


def process_of(word):
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{entry}/cmdline", "rb") as cmdline:
            if os.fsencode(word) in cmdline.read().split(b"\0"):
                return int(entry)
    raise ProcessLookupError(word)


def raise_read_ahead(mountpoint):
    """As miragefs does for its own mounts."""
    device = os.stat(mountpoint).st_dev
    with contextlib.suppress(OSError), open(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb", "w") as out:
        out.write("4096")


def floors(stack, path, image, mode):
    size = str(os.stat(image).st_size)
    for name, what in [("zeros", size), ("pread", image)]:
        at = directory(path, f"{name}-{mode}")
        command = [READER, "zero" if name == "zeros" else "pread", at, what, mode]
        server = stack.enter_context(started(f"{name} server", command, f"{at}/disk.img", at))
        raise_read_ahead(at)
        yield server


def peers(stack, path, image):
    """Those that are installed; the others are named."""
    for program in ("xmount", "nbdkit", "nbdfuse", "qemu-storage-daemon"):
        if not shutil.which(program):
            print(f"left out: {program} is not installed")
    if shutil.which("xmount"):
        at = directory(path, "xmount")
        name = os.path.splitext(os.path.basename(image))[0]
        command = ["xmount", "--in", "raw", image, "--out", "raw", at]
        yield stack.enter_context(started("xmount", command, f"{at}/{name}.dd", at))
    if shutil.which("nbdfuse") and shutil.which("nbdkit"):
        at, socket = directory(path, "nbdfuse"), os.path.join(path, "nbd.sock")
        server = subprocess.Popen(["nbdkit", "-f", "-r", "-U", socket, "file", image])
        stack.callback(lambda: (server.terminate(), server.wait()))
        while not os.path.exists(socket):
            time.sleep(0.01)
        command = ["nbdfuse", "-r", f"{at}/disk.img", "--unix", socket]
        yield stack.enter_context(started("nbdkit + nbdfuse", command, f"{at}/disk.img", at, [server.pid]))
    if shutil.which("qemu-storage-daemon"):
        at = os.path.join(path, "qsd.img")
        open(at, "w").close()
        command = ["qemu-storage-daemon", "--blockdev", f"driver=file,node-name=f,filename={image},read-only=on",
                   "--export", f"type=fuse,id=e,node-name=f,mountpoint={at},writable=off"]
        yield stack.enter_context(started("qemu-storage-daemon", command, at, at))


def spans_of(path, most, shortest=4 << 20):
    """Ranges of data, `most` bytes of them. What is shorter than `shortest` is metadata on a disk of large files."""
    spans, left = [], most
    with open(path, "rb") as file:
        offset, size = 0, os.stat(path).st_size
        while offset < size and left > 0:
            try:
                start = os.lseek(file.fileno(), offset, os.SEEK_DATA)
            except OSError:
                break
            offset = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            if offset - start >= shortest:
                spans.append(f"{start}:{min(offset, start + left)}")
                left -= offset - start
    return spans


def read(server, spans, order, block, readers, count, direct, dropped):
    before = server.cpu()
    words = [READER, "read", server.path, order, str(block), str(readers), str(count),
             "direct" if direct else "cached", "dropped" if dropped else "kept", *spans]
    seconds, done, cpu = map(float, subprocess.run(words, check=True, capture_output=True, text=True).stdout.split())
    return {"seconds": seconds, "bytes": done, "cpu": cpu + server.cpu() - before}


class Cell:
    """What one subject came to in one measurement."""

    def __init__(self, found, is_random):
        self.rates = [one["bytes"] / (4096 if is_random else 2**20) / one["seconds"] for one in found]
        self.rate = statistics.median(self.rates)
        self.cpu = statistics.median(one["cpu"] / one["bytes"] * 2**30 for one in found)


MEASUREMENTS = [
    # title, order, readers, direct, dropped
    ("warm, 1 MiB in sequence", "sequential", 1, False, False),
    ("warm, 1 MiB in sequence, 4 readers", "sequential", 4, False, False),
    ("cold, 1 MiB in sequence", "sequential", 1, False, True),
    ("cold, 1 MiB in sequence, 4 readers", "sequential", 4, False, True),
    ("O_DIRECT, 1 MiB in sequence", "sequential", 1, True, False),
    ("O_DIRECT, 1 MiB in sequence, 4 readers", "sequential", 4, True, False),
    ("warm, 4 KiB at random", "random", 1, False, False),
    ("warm, 4 KiB at random, 4 readers", "random", 4, False, False),
    ("cold, 4 KiB at random", "random", 1, False, True),
    ("cold, 4 KiB at random, 4 readers", "random", 4, False, True),
    ("O_DIRECT, 4 KiB at random", "random", 1, True, False),
    ("O_DIRECT, 4 KiB at random, 4 readers", "random", 4, True, False),
]


def measure(subjects, measurements):
    """`{title: {subject: Cell}}`, rounds interleaved."""
    table = {}
    for title, order, readers, direct, dropped in measurements:
        is_random = order == "random"
        block = 4096 if is_random else 1 << 20
        count = (WARM_READS if not dropped and not direct else COLD_READS) if is_random else 1 << 30
        found = {server.name: [] for server, _ in subjects}
        for turn in range(ROUNDS + 1):
            for server, spans in subjects:
                # The file itself is what all are made from: it is never cold, and O_DIRECT would read the disk.
                plain = server.name == "real file"
                one = read(server, spans, order, block, readers, count, direct and not plain, dropped and not plain)
                if turn:
                    found[server.name].append(one)
        table[title] = {name: Cell(one, is_random) for name, one in found.items()}
        print_rows(title, table[title], is_random)
    return table


def print_rows(title, cells, is_random):
    unit = "reads/s" if is_random else "MiB/s"
    print(f"\n{title} ({unit}; median, least to most; seconds of CPU per GiB)")
    for name, cell in cells.items():
        spread = f"{min(cell.rates):,.0f} to {max(cell.rates):,.0f}"
        print(f"  {name:22} {cell.rate:10,.0f}   {spread:22} {cell.cpu:6.2f}")


def ratio(cells, name, other):
    return cells[name].rate / cells[other].rate


def targets(table, small, extra):
    """Lines of `what, target, found`."""
    rows = []

    def row(what, sign, target, found):
        rows.append((what, f"{'at least' if sign > 0 else 'at most'} {target}", found, (found - target) * sign >= 0))

    others = ["xmount", "nbdkit + nbdfuse", "qemu-storage-daemon"]
    for title, cells in table.items():
        present = [name for name in others if name in cells]
        best = max(present, key=lambda name: cells[name].rate, default=None)
        if title.startswith("warm"):
            row(f"{title}: disk.img to the real file", 1, 0.9, ratio(cells, "disk.img", "real file"))
            row(f"{title}: zeros server to the real file", 1, 0.9, ratio(cells, "zeros server", "real file"))
        elif "sequence" in title:
            row(f"{title}: disk.img to the zeros server", 1, 0.85, ratio(cells, "disk.img", "zeros server"))
            if best and title.startswith("cold"):
                row(f"{title}: disk.img to {best}", 1, 1.3, ratio(cells, "disk.img", best))
        elif best and title.startswith("cold"):
            row(f"{title}: disk.img to {best}", 1, 1.2, ratio(cells, "disk.img", best))
    for title in ("cold, 1 MiB in sequence", "O_DIRECT, 1 MiB in sequence"):
        cells = table[title]
        for name, target in [("disk.img", 1.15), ("disk.vmdk", 1.2), ("boot.ova", 1.6)]:
            row(f"{title}: CPU per GiB of {name} to the pread server", -1, target, cells[name].cpu / cells["pread server"].cpu)
    row("export of disk.img to cp of the real file", 1, 0.9, extra["cp"] / extra["export"])
    row(f"{FILES:,} small files: disk.img in sequence to tar", 1, 0.5, extra["tar"] / extra["small"])
    return rows


def alternate(works):
    """Medians of seconds of several works in turn."""
    found = {name: [] for name in works}
    for turn in range(ROUNDS + 1):
        for name, work in works.items():
            seconds = timing.seconds(work)
            if turn:
                found[name].append(seconds)
    return {name: statistics.median(one) for name, one in found.items()}


def large(stack, path):
    tree = directory(path, "tree")
    for name in ("first", "second"):
        with open(os.path.join(tree, name), "wb") as out:
            for _ in range(MIB // 2):
                out.write(os.urandom(1 << 20))
    config = timing.config(path, f"{MIB + 256}MiB", tree)
    mountpoint = directory(path, "large")
    timing.mount(config, mountpoint)
    stack.callback(lambda: timing.unmount(mountpoint))
    image = os.path.join(path, "real.img")
    timing.run(timing.PROGRAM, "export", config, "disk.img", image)
    return config, mountpoint, image


def subjects_of(stack, path, mountpoint, image):
    daemon = timing.daemon(mountpoint)
    spans = spans_of(f"{mountpoint}/disk.img", MIB << 20)
    subjects = [(Server("real file", image, []), spans)]
    servers = [*floors(stack, path, image, "keep"), *peers(stack, path, image)]
    subjects += [(server, spans) for server in servers]
    for name in ("disk.img", "disk.vmdk", "boot.ova"):
        file = f"{mountpoint}/{name}"
        subjects.append((Server(name, file, [daemon]), spans_of(file, MIB << 20)))
    return subjects


def exports(path, config, image):
    exported, copied = os.path.join(path, "exported.img"), os.path.join(path, "copied.img")

    def export():
        timing.run(timing.PROGRAM, "export", config, "disk.img", exported)

    def copy():
        # As export, which ends when the file is on the disk.
        timing.run("sh", "-c", 'cp --sparse=auto "$1" "$2" && sync "$2"', "sh", image, copied)

    found = alternate({"export": export, "cp": copy})
    print(f"\nexport {found['export']:.2f} s, cp and sync {found['cp']:.2f} s of {MIB} MiB")
    return found


def small_files(stack, path):
    tree = directory(path, "small")
    content = 0
    for number in range(FILES):
        if number % 100 == 0:
            at = directory(tree, f"{number // 100:04}")
        with open(f"{at}/{number:06}", "wb") as out:
            content += out.write(os.urandom(4096 + number % 8192))
    other = directory(path, "other")
    config = timing.config(other, "2GiB", tree)
    mountpoint = directory(path, "small-images")
    timing.mount(config, mountpoint)
    stack.callback(lambda: timing.unmount(mountpoint))
    server = Server("disk.img", f"{mountpoint}/disk.img", [timing.daemon(mountpoint)])
    # All of it, since tar reads all of it: files lie between tables, in more than a thousand ranges.
    spans = spans_of(server.path, 4 << 30, shortest=0)
    done = []

    def image():
        done.append(read(server, spans, "sequential", 1 << 20, 1, 1 << 30, False, True)["bytes"])

    def tar():
        # Into a pipe: tar does not read what it would write to /dev/null.
        subprocess.run(["sh", "-c", 'tar c -C "$1" . | cat >/dev/null', "sh", tree], check=True)

    found = alternate({"small": image, "tar": tar})
    # Else the two would not be of the same files.
    assert min(done) >= content, (min(done), content)
    print(f"\n{FILES:,} files, {int(content) >> 20} MiB: disk.img in sequence, cold, {int(min(done)) >> 20} MiB, {found['small']:.2f} s; "
          f"tar {found['tar']:.2f} s")
    found["subject"] = (server, spans)
    return found


def markdown(table, rows, extra, machine):
    parts = {}
    for group, key in [("sequence", "sequential"), ("random", "random")]:
        titles = [title for title in table if group in title]
        names = list(next(iter(table.values())))
        lines = ["| | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
        for title in titles:
            cells = table[title]
            figures = [f"{cells[name].rate:,.0f} ({min(cells[name].rates):,.0f}–{max(cells[name].rates):,.0f})" for name in names]
            lines.append(f"| {title} | " + " | ".join(figures) + " |")
        parts[key] = "\n".join(lines)
    lines = ["| | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
    for title in table:
        if "sequence" in title:
            figures = [f"{table[title][name].cpu:.3f}" for name in names]
            lines.append(f"| {title} | " + " | ".join(figures) + " |")
    parts["cpu"] = "\n".join(lines)
    lines = ["| what | target | found | |", "|---|---|---:|---|"]
    for what, target, found, met in rows:
        lines.append(f"| {what} | {target} | {found:.2f} | {'' if met else 'missed'} |")
    parts["targets"] = "\n".join(lines)
    parts["other"] = "\n".join([
        "| what | seconds |", "|---|---:|",
        f"| `miragefs export` of disk.img, {MIB} MiB of data | {extra['export']:.2f} |",
        f"| `cp --sparse=auto` and `sync` of the same real file | {extra['cp']:.2f} |",
        f"| disk.img of {FILES:,} small files, its data in sequence, cold | {extra['small']:.2f} |",
        f"| `tar c` of their directory | {extra['tar']:.2f} |",
    ])
    parts["machine"] = f"{machine}; medians of {ROUNDS} rounds, least and most in brackets."
    return parts


def write_docs(parts, picture):
    path = os.path.join(HERE, "..", "docs", "performance.md")
    with open(path) as file:
        text = file.read()
    for name, part in parts.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
        text, count = re.subn(pattern, lambda match: f"{match[1]}{part}\n{match[2]}", text, flags=re.S)
        assert count == 1, name
    with open(path, "w") as file:
        file.write(text)
    with open(os.path.join(HERE, "..", "docs", "performance.svg"), "w") as file:
        file.write(picture)


def plot(table):
    """Bars of the sequential and the random reads that no page cache answers, each beside the best of its row."""
    titles = [title for title in table if not title.startswith("warm")]
    names = [name for name in next(iter(table.values())) if name != "real file"]
    height, left, width = 16, 250, 460
    lines, y = [], 30
    for title in titles:
        cells = table[title]
        most = max(cells[name].rate for name in names)
        unit = "reads/s" if "random" in title else "MiB/s"
        lines.append(f'<text x="10" y="{y + 12}" font-weight="bold">{title}</text>')
        y += 20
        for name in names:
            rate = cells[name].rate
            own = name in ("disk.img", "disk.vmdk", "boot.ova")
            colour = "#2a6fb0" if own else "#b9b9b9" if name.endswith("server") else "#d98a3d"
            lines.append(f'<text x="{left - 8}" y="{y + 12}" text-anchor="end">{name}</text>')
            lines.append(f'<rect x="{left}" y="{y + 2}" width="{rate / most * width:.0f}" height="{height - 4}" fill="{colour}"/>')
            lines.append(f'<text x="{left + rate / most * width + 6:.0f}" y="{y + 12}">{rate:,.0f} {unit}</text>')
            y += height
        y += 10
    body = "\n".join(lines)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="840" height="{y}" font-family="sans-serif" font-size="12">\n'
            f'<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n')


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    machine = timing.machine()
    print(machine)
    with timing.scratch() as (path, _), contextlib.ExitStack() as stack:
        config, mountpoint, image = large(stack, path)
        subjects = subjects_of(stack, path, mountpoint, image)
        table = measure(subjects, MEASUREMENTS)
        extra = exports(path, config, image)
        with contextlib.ExitStack() as inner:
            extra.update(small_files(inner, path))
            small = measure([extra.pop("subject")], [one for one in MEASUREMENTS if one[0].startswith("cold")])
        rows = targets(table, small, extra)
        print("\ntargets")
        for what, target, found, met in rows:
            print(f"  {'  ' if met else '! '}{what}: {found:.2f} ({target})")
        if "--write" in sys.argv:
            write_docs(markdown(table, rows, extra, machine), plot(table))


main()
