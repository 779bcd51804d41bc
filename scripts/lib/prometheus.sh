# Prometheus and its tool, from Debian's package if they are not installed. Sourced after common.sh.
# shellcheck shell=bash

PROMETHEUS_HOME=$CACHE/tools/prometheus

# Unpacks the package without installing it: the installation would start a server.
unpack_prometheus() {
    has apt-get || fail "missing: prometheus and promtool"
    (cd "$PROMETHEUS_HOME" && { apt-get download prometheus || { apt-get update && apt-get download prometheus; }; } && dpkg -x prometheus_*.deb .)
}

fetch_prometheus() {
    { has promtool && has prometheus; } || [ -e "$PROMETHEUS_HOME/.filled" ] || told "fetch Prometheus, once" once "$PROMETHEUS_HOME" unpack_prometheus
}

prometheus_program() { if has promtool && has prometheus; then command -v prometheus; else say "$PROMETHEUS_HOME/usr/bin/prometheus"; fi; }
