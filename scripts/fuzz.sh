#!/usr/bin/env bash
# Run each fuzzer for a while; what it finds is left in tests/fuzz/artifacts, and the exit code is not zero.
#
#   fuzz.sh [SECONDS [TARGET...]]
#
# SECONDS: for each target, 600 by default. New inputs go below target/fuzz-corpus: those worth keeping are copied to
# tests/fuzz/corpus by hand, where `cargo test` replays them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/cargo-path.sh
. scripts/cargo-path.sh

scripts/setup.sh long
use_newest_cargo
PATH=$PWD/target/tools/bin:$PATH
seconds=${1:-600}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(config ovf vmx mtree view)
# The sanitizers of coverage are not in stable compilers; this lets one have them.
export RUSTC_BOOTSTRAP=1
failed=0
for target in "${targets[@]}"; do
    printf '\n== %s, %s s\n' "$target" "$seconds"
    found=target/fuzz-corpus/$target
    mkdir -p "$found"
    options=(-max_total_time="$seconds" -max_len=8192 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1)
    dictionary=tests/fuzz/$target.dict
    [ ! -e "$dictionary" ] || options+=(-dict="$dictionary")
    if ! cargo fuzz run --fuzz-dir tests/fuzz --target-dir target/fuzz "$target" "$found" "tests/fuzz/corpus/$target" -- "${options[@]}" \
        2>&1 | grep -v -e '^#' -e '^INFO: '; then
        failed=1
    fi
done
exit "$failed"
