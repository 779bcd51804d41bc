# Kubernetes and etcd as one program, built from the Go module proxy once. Sourced after common.sh and go.sh.
# shellcheck shell=bash

KUBERNETES_SOURCE=$ROOT/scripts/cluster.d/kubernetes
KUBERNETES_VERSION=$(sed -n 's|^\tk8s.io/kubernetes v||p' "$KUBERNETES_SOURCE/go.mod")
KUBERNETES_HOME=$CACHE/tools/kubernetes-$KUBERNETES_VERSION-$(cat "$KUBERNETES_SOURCE"/* | cksum | cut -d ' ' -f 1)
# shellcheck disable=SC2034 # used by the scripts that source this file
KUBERNETES=$KUBERNETES_HOME/kubernetes

# Keeps the program only: the modules and Go's build cache take gigabytes.
fetch_kubernetes() {
    local minor package flags=''
    minor=$(cut -d . -f 2 <<<"$KUBERNETES_VERSION")
    # The same variables as in upstream's release build: clients and kubelet compare versions.
    for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
        flags+=" -X $package.gitVersion=v$KUBERNETES_VERSION -X $package.gitMajor=1 -X $package.gitMinor=$minor -X $package.gitTreeState=clean"
    done
    (cd "$KUBERNETES_SOURCE" && CGO_ENABLED=0 GOMODCACHE=$KUBERNETES_HOME/modules GOCACHE=$KUBERNETES_HOME/build GOFLAGS=-modcacherw \
        go build -trimpath -ldflags "-s -w$flags" -o "$KUBERNETES" .) || return
    rm -rf "$KUBERNETES_HOME/modules" "$KUBERNETES_HOME/build"
}

build_kubernetes() {
    [ ! -e "$KUBERNETES_HOME/.filled" ] || return 0
    with_go
    told "build Kubernetes $KUBERNETES_VERSION, once" once "$KUBERNETES_HOME" fetch_kubernetes
}
