# Certificates of the engines' TLS listeners, created once for each data folder and never part of the repository.
# Sourced by scripts/engines.
# shellcheck shell=bash

# ca.pem has signed server.crt (127.0.0.1 and localhost) and client.crt (CN=mutual); `password` is the password of the engines' test
# accounts. Keys are readable by all users, because containers run as other users; nothing outside this folder trusts them.
TLS_DIR=$ENGINES_DIR/tls

certificates() {
    [ -e "$TLS_DIR/.filled" ] && return
    has openssl || fail "missing: openssl. Run scripts/setup test"
    told "make certificates" once "$TLS_DIR" certificates_make
}

certificates_make() {
    certificate_authority "$TLS_DIR" "sosohappy engines" &&
        certificate "$TLS_DIR" server "/CN=localhost" "subjectAltName=IP:127.0.0.1,DNS:localhost" &&
        certificate "$TLS_DIR" client "/CN=mutual" "extendedKeyUsage=clientAuth" &&
        openssl rand -hex 16 >"$TLS_DIR/password" && chmod 0644 "$TLS_DIR"/*
}
