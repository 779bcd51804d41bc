# Images of the node, beside those of scripts/lib/images.sh. Sourced by scripts/cluster after common.sh, go.sh and images.sh.
# shellcheck shell=bash

NETWORK_SOURCE=$CLUSTER_D/network
NETWORK_HOME=$CACHE/tools/cluster-network-$(cat "$NETWORK_SOURCE"/go.* "$NETWORK_SOURCE"/*/* | cksum | cut -d ' ' -f 1)

METRICS_SOURCE=$CLUSTER_D/metrics
METRICS_HOME=$CACHE/tools/cluster-metrics-$(cat "$METRICS_SOURCE"/go.* | cksum | cut -d ' ' -f 1)

fetch_network() {
    (cd "$NETWORK_SOURCE" && CGO_ENABLED=0 GOMODCACHE=$NETWORK_HOME/modules GOCACHE=$NETWORK_HOME/build GOFLAGS=-modcacherw \
        go build -trimpath -ldflags '-s -w' -o "$NETWORK_HOME" ./names ./policies) || return
    rm -rf "$NETWORK_HOME/modules" "$NETWORK_HOME/build"
}

# CoreDNS, and what enforces network policies.
build_network() {
    [ ! -e "$NETWORK_HOME/.filled" ] || return 0
    with_go
    told "build the cluster's names and policies, once" once "$NETWORK_HOME" fetch_network
}

fetch_metrics() {
    (cd "$METRICS_SOURCE" && CGO_ENABLED=0 GOMODCACHE=$METRICS_HOME/modules GOCACHE=$METRICS_HOME/build GOFLAGS=-modcacherw \
        go build -trimpath -ldflags '-s -w' -o "$METRICS_HOME" sigs.k8s.io/metrics-server/cmd/metrics-server sigs.k8s.io/prometheus-adapter/cmd/adapter) || return
    rm -rf "$METRICS_HOME/modules" "$METRICS_HOME/build"
}

# What serves the figures of pods to autoscalers.
build_metrics() {
    [ ! -e "$METRICS_HOME/.filled" ] || return 0
    with_go
    told "build metrics-server and the Prometheus adapter, once" once "$METRICS_HOME" fetch_metrics
}

make_images() {
    mkdir -p "$LAYERS/made"
    cc -Os -static -o "$LAYERS/made/pause" "$CLUSTER_D/images/pause.c" &&
        layer pause "$LAYERS/made/pause" pause && layer coredns "$NETWORK_HOME/names" coredns || return
    {
        image localhost/pause:1 '{"Entrypoint": ["/pause"]}' "$LAYERS/pause.tar"
        image localhost/coredns:1 '{"Entrypoint": ["/coredns"]}' "$LAYERS/coredns.tar"
    } >"$LAYERS/node.json"
}

# load_images LIST REFERENCES: loads the images of a list into the node, and writes those without a tag to a file, with their digests.
load_images() { python3 "$ROOT/scripts/lib/images.py" "$2" <"$1" | in_node ctr --address "$DATA/containerd.sock" --namespace k8s.io images import -; }
