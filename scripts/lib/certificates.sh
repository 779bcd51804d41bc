# Certificates of an authority for one purpose: the engines of tests, of docker/compose.yaml, of a cluster. Sourced, not run.
# shellcheck shell=bash

# certificate_authority FOLDER NAME: writes ca.pem and ca.key.
certificate_authority() {
    certificate_key "$1/ca.key" &&
        openssl req -x509 -new -key "$1/ca.key" -out "$1/ca.pem" -days 3650 -subj "/CN=$2" \
            -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign,cRLSign"
}

# certificate FOLDER NAME SUBJECT EXTENSION: writes NAME.crt, signed by the authority of the folder, NAME.key, and both in NAME.pem, the
# form that Kafka and MongoDB require.
certificate() {
    local at=$1/$2
    certificate_key "$at.key" && openssl req -new -key "$at.key" -subj "$3" -out "$at.csr" &&
        printf '%s\nbasicConstraints=CA:FALSE\n' "$4" >"$at.ext" &&
        openssl x509 -req -in "$at.csr" -CA "$1/ca.pem" -CAkey "$1/ca.key" -CAcreateserial -days 3650 -extfile "$at.ext" -out "$at.crt" &&
        cat "$at.key" "$at.crt" >"$at.pem" && rm "$at.csr" "$at.ext"
}

certificate_key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"; }
