# Shared by all scripts: folders and messages. Sourced, not run.
# shellcheck shell=bash

# shellcheck disable=SC2034 # used by the scripts that source this file
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# Downloads and builds are kept outside the clone, so that a second run, and a second clone, is fast.
CACHE=${SOSOHAPPY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sosohappy}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$CACHE/target}

say() { printf '%s\n' "$*"; }

warn() { printf '%s\n' "$*" >&2; }

fail() {
    warn "error: $*"
    exit 1
}

has() { command -v "$1" >/dev/null 2>&1; }

# told TEXT COMMAND…: runs the command and prints one line with its duration; prints the end of its output if it fails.
told() {
    local text=$1 began=$SECONDS log status=0
    shift
    log=$(mktemp)
    printf '%s … ' "$text"
    "$@" >"$log" 2>&1 </dev/null || status=$?
    if [ "$status" -eq 0 ]; then
        say "$((SECONDS - began)) s"
    else
        say "failed after $((SECONDS - began)) s"
        tail -n 40 "$log" >&2
    fi
    rm -f "$log"
    return "$status"
}

# once FOLDER COMMAND…: fills a cache folder once. The folder counts as filled only after the command has succeeded, so an interrupted
# download starts again. A second script waits for the first one, where flock exists.
once() (
    folder=$1
    shift
    [ -e "$folder/.filled" ] && return 0
    mkdir -p "$(dirname "$folder")"
    if has flock; then
        exec 8>"$folder.lock"
        flock 8
        [ -e "$folder/.filled" ] && return 0
    fi
    rm -rf "$folder"
    mkdir -p "$folder"
    # Not inherited: a process that the command leaves behind would hold the lock.
    "$@" 8>&- && touch "$folder/.filled"
)

# cargo_tool NAME VERSION FOLDER: builds a tool of Cargo's into the folder; `once` runs it. The release profiles of these tools optimize for
# long runs: that takes minutes and saves a second here. Their target folder is their own, so that they do not wait for a concurrent
# build of the fleet.
cargo_tool() {
    env -u CARGO_TARGET_DIR CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_OPT_LEVEL=1 \
        cargo install "$1" --version "$2" --locked --root "$3"
}
