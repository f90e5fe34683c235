# shellcheck shell=bash
# Sourced, not run: puts a cargo that is new enough for this project first in PATH, if there is one.
#
# rustup's lies in ~/.cargo/bin, which the PATH of `sudo` and of non-interactive shells lacks; Debian's lies in
# /usr/bin, where an older one of rustup's would hide it.

# Is this cargo at least `rust-version`?
cargo_is_new_enough() { # CARGO
    local manifest wanted found
    manifest=${BASH_SOURCE[0]%/*}/../Cargo.toml
    wanted=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' "$manifest")
    found=$("$1" --version 2>/dev/null | awk '{ print $2 }') || return 1
    [ -n "$found" ] && [ "$(printf '%s\n' "$wanted" "$found" | sort --version-sort | head -n 1)" = "$wanted" ]
}

use_newest_cargo() {
    local candidate
    for candidate in "$(command -v cargo || true)" "${CARGO_HOME:-${HOME:-/root}/.cargo}/bin/cargo" /usr/bin/cargo; do
        if [ -x "$candidate" ] && cargo_is_new_enough "$candidate"; then
            PATH=${candidate%/*}:$PATH
            export PATH
            return 0
        fi
    done
    return 1
}
