#!/usr/bin/env bash
# How fast a mount is read, beside other servers and the kernel; see read_path.py.
#
#   read_path.sh [--quick] [--write] [--rounds N]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHONPATH=benches PYTHONDONTWRITEBYTECODE=1 exec python3 benches/read_path.py "$@"
