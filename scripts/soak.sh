#!/usr/bin/env bash
# An hour of edits under readers, copies and loop mounts: every copy must be one state, and the daemon must not grow.
#
#   soak.sh [SECONDS]
#
# Prints counters every minute. Root, for the loop mounts.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH=$PATH:/usr/sbin:/sbin
# shellcheck source=scripts/cargo-path.sh
. scripts/cargo-path.sh

scripts/setup.sh test
use_newest_cargo
REQUIRE_ALL=1 MIRAGEFS_SOAK_SECONDS=${1:-3600} cargo test --locked --test suite -- \
    --exact --nocapture live::stress::every_copy_is_one_generation_whatever_is_edited_meanwhile
