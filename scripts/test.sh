#!/usr/bin/env bash
# Everything that judges the project: formatting, lints, dependencies, and all five tiers of tests.
#
#   test.sh [--long]
#
# --long sets MIRAGEFS_LONG=1: more generated cases, and the tests that take minutes.
# REQUIRE_ALL=1 makes a test fail where it would say SKIP because a tool is missing.
# MIRAGEFS_OVF_XSD names the schema that the OVF is checked against; nothing here downloads it.

# `step` calls the functions below by name.
# shellcheck disable=SC2317
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH=$PATH:/usr/sbin:/sbin
# shellcheck source=scripts/cargo-path.sh
. scripts/cargo-path.sh

profile=test
case ${1:-} in
'') ;;
--long)
    profile=long
    export MIRAGEFS_LONG=1
    export PROPTEST_CASES=${PROPTEST_CASES:-4096}
    ;;
*)
    echo "usage: test.sh [--long]" >&2
    exit 2
    ;;
esac

summary=()
step() { # NAME COMMAND...
    local name=$1 start=$SECONDS
    shift
    printf '\n== %s\n' "$name"
    if "$@" 2>&1 | tee -a "$log"; then
        summary+=("ok    $((SECONDS - start)) s  $name")
    else
        summary+=("FAIL  $((SECONDS - start)) s  $name")
        failed=1
    fi
}

# cargo-deny is not in Debian: it is asked where it is installed, and never for anything from the network.
check_dependencies() {
    if ! cargo deny --version >/dev/null 2>&1; then
        echo "SKIP cargo deny: cargo-deny is not installed"
        return 0
    fi
    local checks=(bans licenses sources)
    if compgen -G "${CARGO_HOME:-${HOME:-/root}/.cargo}/advisory-db*/*" >/dev/null; then
        checks+=(advisories)
    else
        echo "SKIP cargo deny advisories: no copy of the advisory database (cargo deny fetch)"
    fi
    cargo deny --offline --locked check "${checks[@]}"
}

# Only root can make and read a tree that belongs to root; without it the tests say so.
prepare_os() {
    if [ "$(id -u)" = 0 ]; then
        examples/os/prepare.sh
    else
        echo "SKIP the Debian that the tests boot: not root"
    fi
}

# --show-output: what a passing test says matters too, if it says SKIP.
run_tests() {
    cargo test --locked --no-fail-fast -- --show-output
}

# Locks that a test controls are other locks: built apart, so that nothing else is built anew each time.
run_schedules() {
    cargo test --locked --features shuttle --profile schedules --target-dir target/schedules --test schedules
}

# How many tests passed and failed in each top-level module: formats is tier 0, synth tier 1, the suite's topics the rest.
count_by_module() {
    awk '/^test [^ ]+ \.\.\. (ok|FAILED)$/ { split($2, part, "::"); seen[part[1]]; count[part[1], $NF]++ }
        END { for (module in seen) printf "%-12s %4d ok %4d failed\n", module, count[module, "ok"], count[module, "FAILED"] }' \
        "$log" | sort
}

failed=0
scripts/setup.sh "$profile"
use_newest_cargo
mkdir -p target
log=target/test.log
: >"$log"

step "formatting" cargo fmt --check
step "lints" cargo clippy --all-targets --locked -- -D warnings
step "dependencies" check_dependencies
step "the lab that the tests boot" examples/lab/prepare.sh
step "the Debian that the tests boot" prepare_os
step "tests" run_tests
step "schedules of threads" run_schedules
[ "$profile" = test ] || step "fuzzers" scripts/fuzz.sh
[ "$profile" = test ] || step "soak" scripts/soak.sh

printf '\n== summary\n'
printf '%s\n' "${summary[@]}"
count_by_module
echo "REQUIRE_ALL=${REQUIRE_ALL:-} MIRAGEFS_LONG=${MIRAGEFS_LONG:-} MIRAGEFS_OVF_XSD=${MIRAGEFS_OVF_XSD:-(unset)}"
if grep -E '^SKIP\b' "$log" | sort -u; then
    echo "the lines above name what did not run"
fi
exit "$failed"
