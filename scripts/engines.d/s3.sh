# moto, a server with S3's protocol from Python's registry, for tests only, which start it themselves. Sourced by scripts/engines.
# shellcheck shell=bash

MOTO_VERSION=5.2.1
S3_HOME=$CACHE/tools/moto-$MOTO_VERSION

s3_prepare() {
    [ -e "$S3_HOME/.filled" ] && return
    has python3 || fail "moto needs python3 with venv and pip: run scripts/setup test"
    told "fetch moto $MOTO_VERSION" once "$S3_HOME" s3_install
}

# Not the extra `server`: it brings what other services of AWS need.
s3_install() {
    python3 -m venv "$S3_HOME/venv" &&
        "$S3_HOME/venv/bin/pip" install --no-input --no-compile --disable-pip-version-check "moto[s3]==$MOTO_VERSION" 'flask>=3,<4' 'flask-cors>=6,<7'
}

# Prints the line for a server that is installed.
s3_line() {
    [ ! -e "$S3_HOME/.filled" ] || say "export SOSOHAPPY_TEST_S3_PYTHON='$S3_HOME/venv/bin/python'"
}
