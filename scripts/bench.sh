#!/usr/bin/env bash
# Measure and print; nothing here passes or fails. criterion's benches of units first, then the scripts of benches/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH=$PATH:/usr/sbin:/sbin
# shellcheck source=scripts/cargo-path.sh
. scripts/cargo-path.sh

scripts/setup.sh bench
use_newest_cargo
cargo build --release --locked --bins --example read_path
# By name: the library's and the program's own test harnesses hold no benches.
cargo bench --locked --bench units
for script in benches/*.sh; do
    [ -x "$script" ] || continue
    printf '\n== %s\n' "$script"
    "$script"
done
