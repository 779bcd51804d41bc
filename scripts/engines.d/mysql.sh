# MariaDB from the system's packages: mariadbd and its client, without the system service. Sourced by scripts/engines.
# shellcheck shell=bash

PATH=$PATH:/usr/sbin:/usr/local/sbin

mysql_url() { say "mysql://root@127.0.0.1:$1/sosohappy"; }

# The URL of an account that requires a password and TLS.
mysql_variables() {
    # A server started by an older version of this script has no such account.
    [ "$(noted mysql by)" = docker ] || grep -qs '^CREATE USER' "$ENGINES_DIR/mysql/init.sql" || return 0
    say "MYSQL_SECURE=mysql://secure:$(cat "$TLS_DIR/password")@127.0.0.1:$(noted mysql port)/sosohappy?ssl-mode=VERIFY_CA&ssl-ca=$TLS_DIR/ca.pem"
}

mysql_prepare() {
    if ! { has mariadbd && has mariadb-install-db && has mariadb; }; then
        fail "MariaDB is not installed: run scripts/setup test"
    fi
}

mysql_launch() {
    local folder=$1 port=$2
    if [ ! -e "$folder/data/.made" ]; then
        rm -rf "$folder/data"
        told "make MariaDB's data folder" mariadb-install-db --no-defaults --user="$(id -un)" --datadir="$folder/data" \
            --auth-root-authentication-method=normal --skip-test-db
        touch "$folder/data/.made"
    fi
    {
        say "CREATE DATABASE IF NOT EXISTS sosohappy CHARACTER SET utf8mb4;"
        say "CREATE USER IF NOT EXISTS secure@'%' IDENTIFIED BY '$(cat "$TLS_DIR/password")' REQUIRE SSL;"
        say "GRANT ALL ON *.* TO secure@'%';"
    } >"$folder/init.sql"
    # The socket's path is relative to the data folder: an absolute path may exceed the maximum length.
    launched "$folder" mariadbd --no-defaults --user="$(id -un)" --datadir="$folder/data" --init-file="$folder/init.sql" \
        --bind-address=127.0.0.1 --port="$port" --socket=mysql.sock --pid-file=mariadbd.pid --skip-name-resolve \
        --ssl-ca="$TLS_DIR/ca.pem" --ssl-cert="$TLS_DIR/server.crt" --ssl-key="$TLS_DIR/server.key" \
        --character-set-server=utf8mb4 --innodb-flush-log-at-trx-commit=1 --max-connections=2000
}

mysql_answers() {
    mariadb --no-defaults --protocol=tcp --host=127.0.0.1 --port="$1" --user=root --connect-timeout=2 \
        --execute='SELECT 1' sosohappy >/dev/null 2>&1
}
