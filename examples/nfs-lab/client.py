#!/usr/bin/env python3
"""What a machine of the lab does to get an appliance: download it in ranges, check it, and take its disk out.

  client.py URL DIRECTORY

The OVA comes in ranges of a MiB, four at a time, each only if the server still has the same one (If-Match); what changes
meanwhile is downloaded anew. Every member is compared with the manifest. DIRECTORY gets boot.ova and what is in it; printed
are the path of the disk and the hardware that the descriptor asks for, one `name=value` a line, as scripts/boot-vm.sh calls
it.
"""

import concurrent.futures
import hashlib
import os
import re
import shutil
import sys
import tarfile
import time
import urllib.error
import urllib.request
import xml.etree.ElementTree

RANGE = 1 << 20
READERS = 4
ATTEMPTS = 20
RASD = "{http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData}"
OVF = "{http://schemas.dmtf.org/ovf/envelope/1}"
# qemu has no lsilogic of the kind that VMware has; Debian's generic kernel has drivers for both.
CONTROLLERS = {"lsilogic": "ahci", "VirtualSCSI": "pvscsi"}
CARDS = {"E1000": "e1000", "VmxNet3": "vmxnet3"}


class Changed(Exception):
    """The server has another file by now."""


def ask(url, method="GET", **headers):
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return urllib.request.urlopen(urllib.request.Request(url, headers=names, method=method), timeout=30)


def download_once(url, path):
    """The file as it is now; returns its size."""
    with ask(url, "HEAD") as head:
        size, tag = int(head.headers["Content-Length"]), head.headers["ETag"]

    def fetch(start):
        end = min(start + RANGE, size)
        try:
            with ask(url, Range=f"bytes={start}-{end - 1}", If_Match=tag) as answer:
                body = answer.read()
                expected = f"bytes {start}-{end - 1}/{size}"
                if answer.status != 206 or answer.headers["Content-Range"] != expected:
                    raise ValueError(f"{url}: {answer.status} {answer.headers['Content-Range']}, expected 206 {expected}")
        except urllib.error.HTTPError as error:
            if error.code == 412:
                raise Changed from error
            raise
        if len(body) != end - start:
            # The file was replaced while it was sent: the server ends early rather than mix the two.
            raise Changed
        os.pwrite(out, body, start)

    out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        with concurrent.futures.ThreadPoolExecutor(READERS) as readers:
            list(readers.map(fetch, range(0, size, RANGE)))
    finally:
        os.close(out)
    return size


def download(url, path):
    for _ in range(ATTEMPTS):
        try:
            return download_once(url, path)
        except Changed:
            print(f"{url}: changed meanwhile, once more", file=sys.stderr)
            time.sleep(0.5)
    raise SystemExit(f"client.py: {url}: still changing after {ATTEMPTS} downloads")


def unpack(path, directory):
    """Names of the members in order; every one but the manifest must be as that says."""
    names = []
    with tarfile.open(path) as ova:
        for member in ova:
            if not member.isreg() or "/" in member.name:
                raise SystemExit(f"client.py: {path}: {member.name}: no file of an appliance")
            with ova.extractfile(member) as body, open(os.path.join(directory, member.name), "wb") as out:
                shutil.copyfileobj(body, out, RANGE)
            names.append(member.name)
    [manifest] = [name for name in names if name.endswith(".mf")]
    with open(os.path.join(directory, manifest)) as lines:
        digests = dict(re.fullmatch(r"SHA256\((.+)\)= ([0-9a-f]{64})", line.rstrip("\n")).groups() for line in lines)
    if set(digests) != set(names) - {manifest}:
        raise SystemExit(f"client.py: {manifest} is about {sorted(digests)}, the archive has {sorted(names)}")
    for name, digest in digests.items():
        with open(os.path.join(directory, name), "rb") as member:
            found = hashlib.sha256(member.read()).hexdigest()
        if found != digest:
            raise SystemExit(f"client.py: {name}: its SHA-256 is {found}, the manifest says {digest}")
    return names


def hardware(path):
    """`name: value` of what the descriptor asks for."""
    root = xml.etree.ElementTree.parse(path).getroot()
    found = {"disk": root.find(f"./{OVF}References/{OVF}File").get(f"{OVF}href")}
    for item in root.iter(f"{OVF}Item"):
        kind = item.findtext(f"{RASD}ResourceType")
        model = item.findtext(f"{RASD}ResourceSubType")
        if kind == "4":
            found["memory"] = item.findtext(f"{RASD}VirtualQuantity")
        elif kind == "6":
            found["controller"] = CONTROLLERS[model]
        elif kind == "10":
            found["card"] = CARDS[model]
    return found


def main():
    url, directory = sys.argv[1:]
    os.makedirs(directory, exist_ok=True)
    ova = os.path.join(directory, "boot.ova")
    size = download(url, ova)
    names = unpack(ova, directory)
    [descriptor] = [name for name in names if name.endswith(".ovf")]
    found = hardware(os.path.join(directory, descriptor))
    print(f"{size} bytes in {-(-size // RANGE)} ranges, {len(names)} members as the manifest says", file=sys.stderr)
    found["disk"] = os.path.join(directory, found["disk"])
    for name, value in found.items():
        print(f"{name}={value}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit("usage: client.py URL DIRECTORY")
    main()
