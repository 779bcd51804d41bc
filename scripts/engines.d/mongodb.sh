# A server of the MongoDB protocol, from Python's registry: SecantusDB, for tests only. Sourced by scripts/engines.
# A real mongod runs wherever a docker engine answers.
# shellcheck shell=bash

SECANTUS_VERSION=0.7.0b3
SECANTUS_HOME=$CACHE/tools/secantusdb-$SECANTUS_VERSION

mongodb_url() { say "mongodb://127.0.0.1:$1/?directConnection=true"; }

mongodb_prepare() {
    [ -e "$SECANTUS_HOME/.filled" ] && return
    has python3 || fail "SecantusDB needs python3 with venv and pip: run scripts/setup test"
    told "fetch SecantusDB $SECANTUS_VERSION" once "$SECANTUS_HOME" mongodb_install
}

mongodb_install() {
    python3 -m venv "$SECANTUS_HOME/venv" &&
        "$SECANTUS_HOME/venv/bin/pip" install --no-input --disable-pip-version-check "secantusdb==$SECANTUS_VERSION" 'pymongo>=4.10,<5'
}

mongodb_launch() {
    local folder=$1 port=$2
    # An empty file keeps it from reading settings it finds elsewhere. Without --sync-on-commit a kill -9 loses
    # inserts that were acknowledged.
    : >"$folder/secantusd.toml"
    launched "$folder" "$SECANTUS_HOME/venv/bin/secantusd-py" --config "$folder/secantusd.toml" --log-level WARNING \
        --host 127.0.0.1 --port "$port" --storage-path "$folder/data" --cache-size 256M --sync-on-commit
}

mongodb_answers() {
    listening "$1" && "$SECANTUS_HOME/venv/bin/python" - "$(mongodb_url "$1")" <<'PYTHON' 2>/dev/null
import sys
import pymongo

client = pymongo.MongoClient(sys.argv[1], serverSelectionTimeoutMS=2000)
sys.exit(0 if client.admin.command("hello")["isWritablePrimary"] else 1)
PYTHON
}
