# SecantusDB, a server with MongoDB's protocol from Python's registry, for tests only. Sourced by scripts/engines.
# If a docker engine responds, a real mongod is used instead.
# shellcheck shell=bash

SECANTUS_VERSION=0.7.0b3
SECANTUS_HOME=$CACHE/tools/secantusdb-$SECANTUS_VERSION

mongodb_url() { say "mongodb://127.0.0.1:$1/?directConnection=true"; }

# A second server with TLS and an account: SecantusDB requires both of all clients or of none.
# shellcheck disable=SC2034 # for assign_port
MONGODB_MORE_PORTS="secure"

mongodb_secure_url() {
    say "mongodb://secure:$(cat "$TLS_DIR/password")@127.0.0.1:$1/?directConnection=true&authSource=admin&tls=true&tlsCAFile=$TLS_DIR/ca.pem"
}

mongodb_variables() {
    # A server started by an older version of this script has no second one.
    [ -n "$(noted mongodb secure-port)" ] || return 0
    # A real mongod accepts both on one port.
    local port=secure-port
    [ "$(noted mongodb by)" = native ] || port=port
    say "MONGODB_SECURE=$(mongodb_secure_url "$(noted mongodb "$port")")"
}

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
    mongodb_serve "$folder" "$port" --cache-size 256M
    if [ ! -e "$folder/secure/data/.account" ]; then
        rm -rf "$folder/secure"
        mkdir -p "$folder/secure"
        told "make MongoDB's account" mongodb_account "$folder/secure" "$(noted mongodb secure-port)"
    fi
    mongodb_serve "$folder/secure" "$(noted mongodb secure-port)" --cache-size 64M --auth \
        --tls-cert-file "$TLS_DIR/server.crt" --tls-key-file "$TLS_DIR/server.key"
}

# mongodb_serve FOLDER PORT OPTION…
mongodb_serve() {
    local folder=$1 port=$2
    shift 2
    # An empty file prevents the server from reading other settings. Without --sync-on-commit a kill -9 loses
    # acknowledged inserts.
    : >"$folder/secantusd.toml"
    # It remembers writes for half an hour in case a driver repeats them, and sorts 10,000 of them at each write: two thirds of its time. A
    # driver repeats a write at once. After each command it asks whether the command is to be recorded in a profile, and waits for the lock that
    # a commit to the disk holds: nobody reads the profile.
    local launcher='from secantus import cli, commands, transactions
transactions._RETRYABLE_RECORD_LIFETIME_SECONDS = 5
commands._maybe_record_profile = lambda *_: None
raise SystemExit(cli.main())'
    launched "$folder" "$SECANTUS_HOME/venv/bin/python" -c "$launcher" --config "$folder/secantusd.toml" --log-level WARNING \
        --host 127.0.0.1 --port "$port" --storage-path "$folder/data" --sync-on-commit "$@"
}

# The account is created while the server requires none.
mongodb_account() {
    local folder=$1 port=$2 deadline=$((SECONDS + PATIENCE))
    mongodb_serve "$folder" "$port"
    until mongodb_do "$(mongodb_url "$port")" "$(cat "$TLS_DIR/password")"; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.2
    done
    ended "$folder" TERM 30 && touch "$folder/data/.account"
}

mongodb_answers() {
    listening "$1" && mongodb_do "$(mongodb_url "$1")" 2>/dev/null || return 1
    [ -z "$(noted mongodb secure-port)" ] || mongodb_do "$(mongodb_secure_url "$(noted mongodb secure-port)")" 2>/dev/null
}

# mongodb_do URL [PASSWORD]: succeeds if the server responds; with a password it creates the account first.
mongodb_do() {
    "$SECANTUS_HOME/venv/bin/python" - "$@" <<'PYTHON'
import sys
import pymongo

client = pymongo.MongoClient(sys.argv[1], serverSelectionTimeoutMS=2000)
if len(sys.argv) > 2:
    client.admin.command("createUser", "secure", pwd=sys.argv[2], roles=["root"])
sys.exit(0 if client.admin.command("hello")["isWritablePrimary"] else 1)
PYTHON
}
