# Checks of the fleet in the cluster, each under the load of people who post, like and write to each other. Sourced by scripts/cluster.
# shellcheck shell=bash

# shellcheck source=scripts/lib/checks.sh
. scripts/lib/checks.sh

SERVICES=(config auth feed dm notice)
ENGINES=(kafka mysql mongodb)
# The cheapest first.
CHECKS=(refused traffic restart credentials edges engines drain autoscale pods bad-image sick blue-green runbook)
kube() { kubectl --namespace sosohappy-dev "$@"; }

addresses_of() {
    local service
    for service in "$@"; do kube get service "$service" --output "jsonpath=http://{.spec.clusterIP}:{.spec.ports[0].port}{'\\n'}"; done
}

# in_background FILE COMMAND…: runs a command in the node's network; its pid is in BACKGROUND.
in_background() {
    local file=$1
    shift
    (exec nsenter --target "$(running "$NODE")" --net -- "$@") >"$file" 2>&1 </dev/null 9>&- &
    BACKGROUND=$!
    begun "$BACKGROUND"
}

rolled_out() { kube rollout status "$1" --timeout "${PATIENCE}s" >/dev/null || fail "$1 is not ready within $PATIENCE s"; }

# ready_replicas SERVICE NUMBER: whether the service has as many pods, all of them ready.
ready_replicas() { [ "$(kube get deployment "$1" --output 'jsonpath={.status.readyReplicas} {.status.replicas}')" = "$2 $2" ]; }

# The pods and restarts of the services, to be compared.
services_now() {
    kube get pods --selector app.kubernetes.io/component=service --sort-by .metadata.name \
        --output "jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[0].restartCount}{'\\n'}{end}"
}

services_are() { [ "$(services_now)" = "$1" ]; }

only_one_pod_each() {
    [ "$(kube get pods --selector app.kubernetes.io/component=service --output name | wc -l)" -eq ${#SERVICES[@]} ]
}

check_traffic() {
    people_begin
    faulty traffic
    sleep 20
    people_end 0
}

# The namespace refuses what its label says.
check_refused() {
    local answer
    faulty refused
    answer=$(kube run refused --image=sosohappy/config --privileged --dry-run=server 2>&1) && fail "a privileged pod was admitted"
    [[ $answer == *'violates PodSecurity "restricted'* ]] || fail "a privileged pod was refused for another reason: $answer"
    seen "a privileged pod is refused"
}

# A pod that takes the part of each service in turn, connects to every port of the fleet and prints those that it reaches. It is never ready, so
# that no Service sends requests to it.
edges_pod() {
    cat <<YAML
apiVersion: v1
kind: Pod
metadata: { name: edges, labels: { app.kubernetes.io/name: stranger } }
spec:
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: 0
  securityContext: { runAsNonRoot: true, runAsUser: 65532, seccompProfile: { type: RuntimeDefault } }
  containers:
    - name: edges
      image: $(sed -n 's/^ *image: //p' k8s/base/mongodb/statefulset.yaml | head -n 1)
      command: [sleep, infinity]
      readinessProbe: { exec: { command: ["false"] } }
      securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: [ALL] } }
YAML
}

PORTS=(config:8888 auth:8890 feed:8891 dm:8889 notice:8892 kafka:9092 mysql:3306 mongodb:27017)
# What each may reach: docs/architecture.md.
declare -A EDGES=([config]="kafka" [auth]="config kafka mysql" [feed]="auth config kafka mysql" [dm]="auth config kafka mongodb"
    [notice]="auth config kafka mongodb" [topics]="kafka" [kafka]="kafka" [mysql]="" [mongodb]="mongodb" [stranger]="")

reached() {
    kube exec edges -- python3 -c 'import concurrent.futures, socket, sys
def reached(port):
    name, number = port.split(":")
    try:
        socket.create_connection((name, int(number)), 3).close()
        return [name]
    except OSError:
        return []
with concurrent.futures.ThreadPoolExecutor() as pool:
    print(*sorted(sum(pool.map(reached, sys.argv[1:]), [])))' "${PORTS[@]}"
}

# may_reach AS: whether the pod, as this service, reaches what it may, and nothing else.
may_reach() { REACHED=$(reached) && [ "$REACHED" = "${EDGES[$1]}" ]; }

check_edges() {
    local name deadline allowed=0
    edges_pod | kube apply --filename - >/dev/null
    until_true "$PATIENCE" "the pod runs" kube exec edges -- true
    faulty edges
    for name in "${!EDGES[@]}"; do
        kube label --overwrite pod edges "app.kubernetes.io/name=$name" >/dev/null
        # The policies see the label a moment later.
        deadline=$((SECONDS + 30))
        until may_reach "$name"; do
            [ "$SECONDS" -lt "$deadline" ] || fail "$name reaches '$REACHED', and may reach '${EDGES[$name]}'"
        done
        say "$name reaches: ${REACHED:-nothing}"
        allowed=$((allowed + $(wc -w <<<"$REACHED")))
    done
    seen "$((${#EDGES[@]} * ${#PORTS[@]})) connections tried, $allowed of them allowed"
    kube delete pod edges >/dev/null
}

check_pods() {
    local service began
    people_begin
    faulty pods
    for service in "${SERVICES[@]}"; do
        began=$SECONDS
        kube delete pod --selector "app.kubernetes.io/name=$service" --wait=false >/dev/null
        rolled_out "deployment/$service"
        seen "$service: the only pod was deleted; its successor is ready after $((SECONDS - began)) s"
    done
    until_true "$PATIENCE" "the pods of before are gone" only_one_pod_each
    people_end
}

check_engines() {
    local engine before after began
    before=$(services_now)
    people_begin
    faulty engines
    for engine in "${ENGINES[@]}"; do
        began=$SECONDS
        kube delete pod "$engine-0" --wait >/dev/null
        rolled_out "statefulset/$engine"
        seen "$engine: the only pod was deleted; its successor is ready after $((SECONDS - began)) s"
    done
    people_end
    after=$(services_now)
    [ "$before" = "$after" ] || fail "a service was restarted:
$before
$after"
    seen "no service was restarted"
}

# sockets_begin: opens three sockets to dm and three to notice; the program's pid is in SOCKETS.
sockets_begin() {
    local to deadline=$((SECONDS + PATIENCE))
    mapfile -t to < <(addresses_of auth dm notice)
    in_background "$WORK/sockets" python3 "$CLUSTER_D/sockets.py" "${to[@]}"
    SOCKETS=$BACKGROUND
    until [ "$(grep -c '^open' "$WORK/sockets")" -eq 6 ]; do
        if ! kill -0 "$SOCKETS" 2>/dev/null || [ "$SECONDS" -ge "$deadline" ]; then fail "six sockets are not open: $(tail -n 5 "$WORK/sockets")"; fi
        sleep 0.2
    done
}

sockets_end() {
    kill "$SOCKETS"
    wait "$SOCKETS" || true
}

check_restart() {
    local service began closed
    faulty restart
    sockets_begin
    people_begin
    began=$SECONDS
    kube rollout restart deployment "${SERVICES[@]}" >/dev/null
    for service in "${SERVICES[@]}"; do rolled_out "deployment/$service"; done
    until_true "$PATIENCE" "the pods of before are gone" only_one_pod_each
    seen "all five are restarted, side by side, and the pods of before are gone after $((SECONDS - began)) s"
    people_end 0
    sockets_end
    closed=$(sed -n 's/^closed //p' "$WORK/sockets" | sort | uniq -c | sed 's/^ *//' | paste -sd , | sed 's/,/, /g')
    seen "sockets closed: $closed"
    [ "$(grep -c '^closed' "$WORK/sockets")" -ge 6 ] || fail "the sockets were not closed"
    ! grep '^closed' "$WORK/sockets" | grep -qv ' 1012$' || fail "a socket was closed without 1012"
}

# An image of feed that is not there: the node has no registry to pull it from. The others get their images of before, so that nothing else changes.
check_bad_image() {
    local before
    sed "/^feed=/s/@sha256:.*/@sha256:$(printf '%064d' 0)/" "$REFERENCES" >"$WORK/bad"
    faulty bad-image
    before=$(services_now)
    people_begin
    ! SOSOHAPPY_DEPLOY_PATIENCE=90s scripts/deploy apply dev --images "$WORK/bad" >"$WORK/deploy" 2>&1 || fail "a roll-out of a missing image succeeded"
    grep '^rolling back' "$WORK/deploy" || fail "nothing was rolled back: $(tail -n 5 "$WORK/deploy")"
    people_end 0
    # The new pod ends after the roll-back.
    until_true "$PATIENCE" "the pods are those of before" services_are "$before"
    seen "rolled back, the pods are those of before"
}

# A drain stops at the budget of disruption: one of two replicas keeps running, because the node takes no successor.
check_drain() {
    local drain
    kube scale deployment dm --replicas 2 >/dev/null
    rolled_out deployment/dm
    kube apply --filename k8s/base/dm/disruption.yaml >/dev/null
    until_true "$PATIENCE" "the budget is known" budget_is_known
    faulty drain
    people_begin
    kubectl drain node-1 --pod-selector app.kubernetes.io/name=dm --delete-emptydir-data --timeout "${PATIENCE}s" >"$WORK/drain" 2>&1 &
    drain=$!
    begun "$drain"
    until grep -q "would violate the pod's disruption budget" "$WORK/drain"; do
        kill -0 "$drain" 2>/dev/null || fail "the drain evicted both replicas: $(tail -n 3 "$WORK/drain")"
        sleep 0.2
    done
    # The pod that was evicted is gone, and the drain still tries to evict the other.
    until_true "$PATIENCE" "one replica has left" dm_runs_once
    kill -0 "$drain" 2>/dev/null || fail "the drain ended: $(tail -n 3 "$WORK/drain")"
    kill "$drain"
    wait "$drain" || true
    kubectl uncordon node-1 >/dev/null
    rolled_out deployment/dm
    people_end 0
    kube delete poddisruptionbudget dm >/dev/null
    kube scale deployment dm --replicas 1 >/dev/null
    until_true "$PATIENCE" "dm has one replica" only_one_pod_each
    seen "the drain evicted one replica of two"
}

budget_is_known() { [ "$(kube get poddisruptionbudget dm --output 'jsonpath={.status.disruptionsAllowed}')" = 1 ]; }

# Its successor is pending: the node takes none.
dm_runs_once() { [ "$(kube get pods --selector app.kubernetes.io/name=dm --field-selector status.phase=Running --output name | wc -l)" -eq 1 ]; }

# Autoscalers with low targets: feed is scaled by the processor time of many requests, dm and notice by sockets, and back.
check_autoscale() {
    local service began load
    until_true "$PATIENCE" "the figures of pods are served" figures_are_served
    people_begin
    kube apply --filename "$CLUSTER_D/manifests/autoscalers.yaml" >/dev/null
    faulty autoscale
    sockets_begin
    in_background "$WORK/load" python3 "$CLUSTER_D/load.py" "$(addresses_of feed)/actuator/prometheus"
    load=$BACKGROUND
    began=$SECONDS
    for service in feed dm notice; do
        until_true "$PATIENCE" "$service has two replicas" ready_replicas "$service" 2
        seen "$service: two replicas after $((SECONDS - began)) s"
    done
    sockets_end
    kill "$load"
    wait "$load" || true
    began=$SECONDS
    for service in feed dm notice; do
        until_true "$PATIENCE" "$service has one replica" ready_replicas "$service" 1
        seen "$service: one replica $((SECONDS - began)) s after the load has ended"
    done
    until_true "$PATIENCE" "the other pods are gone" only_one_pod_each
    people_end 0
    kube delete --filename "$CLUSTER_D/manifests/autoscalers.yaml" >/dev/null
}

figures_are_served() {
    kube top pods &&
        kubectl get --raw '/apis/custom.metrics.k8s.io/v1beta1/namespaces/sosohappy-dev/pods/*/sosohappy_sockets_open' | grep '"name":"dm-'
}

# The services that are restarted after config and auth.
FOLLOWERS=(feed dm notice)

# status_of SERVICE TOKEN: the status of a call that only an operator may make.
status_of() {
    in_network curl --silent --output /dev/null --write-out '%{http_code}' --max-time 30 --header "Authorization: Bearer $2" \
        "$(addresses_of "$1")/actuator/traces/none"
}

operator_token() { kube get secret fleet-credentials --output 'jsonpath={.data.operator-token}' | base64 --decode; }

# New credentials, under load: config and auth are restarted first, as docs/security.md says. In the end the old ones are refused.
check_credentials() {
    local service began=$SECONDS old new status
    old=$(operator_token)
    people_begin
    kube delete secret fleet-credentials >/dev/null
    scripts/deploy secrets dev >/dev/null
    new=$(operator_token)
    faulty credentials
    for service in config auth; do
        kube rollout restart "deployment/$service" >/dev/null
        rolled_out "deployment/$service"
    done
    kube rollout restart deployment "${FOLLOWERS[@]}" >/dev/null
    for service in "${FOLLOWERS[@]}"; do rolled_out "deployment/$service"; done
    until_true "$PATIENCE" "the pods of before are gone" only_one_pod_each
    seen "all pods have the new credentials after $((SECONDS - began)) s"
    for service in "${SERVICES[@]}"; do
        status=$(status_of "$service" "$old")
        [ "$status" = 401 ] || fail "$service answers the old credential with $status"
        status=$(status_of "$service" "$new")
        [ "$status" = 200 ] || fail "$service answers the new credential with $status"
    done
    seen "each service refuses the old credential"
    people_end
}

# A service that hangs: its process is stopped.
check_sick() {
    local uid pid began=$SECONDS
    faulty sick
    uid=$(kube get pods --selector app.kubernetes.io/name=feed --output 'jsonpath={.items[0].metadata.uid}')
    pid=$(grep -ls "pod$uid" /proc/[0-9]*/cgroup | while IFS=/ read -r _ _ pid _; do
        ! grep -qs '/usr/local/bin/server' "/proc/$pid/cmdline" || say "$pid"
    done)
    [ -n "$pid" ] || fail "the process of feed is not found"
    people_begin
    kill -STOP "$pid"
    until_true "$PATIENCE" "feed is restarted" restarted_once "$uid"
    rolled_out deployment/feed
    seen "the kubelet has restarted a feed that hung; it is ready after $((SECONDS - began)) s"
    people_end
}

restarted_once() {
    [ "$(kube get pods --selector app.kubernetes.io/name=feed --output "jsonpath={.items[?(@.metadata.uid=='$1')].status.containerStatuses[0].restartCount}")" -ge 1 ]
}

# blue_green COMMAND: runs it, and tells how long it took.
blue_green() {
    local began=$SECONDS
    SOSOHAPPY_DEPLOY_PATIENCE=${PATIENCE}s scripts/blue-green "$1" dev --images "$REFERENCES" >"$WORK/blue-green" 2>&1 || fail "$1: $(tail -n 5 "$WORK/blue-green")"
    seen "$1: $((SECONDS - began)) s"
}

# A fleet without colours becomes blue, then green, and blue again, and loses its colour.
check_blue_green() {
    people_begin
    blue_green roll-out
    faulty blue-green
    blue_green switch
    blue_green finish
    blue_green roll-out
    blue_green switch
    blue_green rollback
    blue_green finish
    without_colours
    one_each
    people_end 0
}

colour() { kube get service feed --output 'jsonpath={.spec.selector.sosohappy/colour}'; }

# The Deployments without a colour start beside the others; then the Services choose them, and the others go.
without_colours() {
    local service
    if [ -n "$(colour)" ]; then
        scripts/deploy render dev --images "$REFERENCES" | kube apply --filename - --selector app.kubernetes.io/component=service >/dev/null
        for service in "${SERVICES[@]}"; do rolled_out "deployment/$service"; done
        for service in "${SERVICES[@]}"; do
            kube patch service "$service" --patch '{"spec":{"selector":{"sosohappy/colour":null}}}' >/dev/null
        done
    fi
    kube delete deployment --selector sosohappy/colour >/dev/null
}

RUNBOOK=docs/runbook.md

# The commands of the runbook, one after the other. Some of them restart services.
check_runbook() {
    faulty runbook
    cp "$KUBECONFIG" "$WORK/kubeconfig"
    KUBECONFIG=$WORK/kubeconfig python3 "$CLUSTER_D/runbook.py" "$RUNBOOK" "$WORK" "$REFERENCES" "$DATA/pki" | tee "$WORK/runbook"
    seen "$(tail -n 1 "$WORK/runbook")"
    one_each
}

# Waits until each service has one pod, which is ready.
one_each() {
    local service
    for service in "${SERVICES[@]}"; do rolled_out "deployment/$service"; done
    until_true "$PATIENCE" "each service has one pod" only_one_pod_each
}

# The state that each check begins with, after one that has failed.
restored() {
    kubectl uncordon node-1 >/dev/null
    kubectl apply --filename k8s/overlays/dev/namespace.yaml >/dev/null
    kube delete --ignore-not-found pod edges --grace-period 0 --force >/dev/null 2>&1
    kube delete poddisruptionbudget,horizontalpodautoscaler --all >/dev/null
    kube delete --ignore-not-found networkpolicy open >/dev/null
    without_colours
    scripts/deploy secrets dev >/dev/null
    # A service that has the credentials of before cannot read its settings, which the roll-out looks at.
    if [ "$1" = credentials ]; then
        kube rollout restart deployment "${SERVICES[@]}" >/dev/null
        one_each
    fi
    scripts/deploy apply dev --images "$REFERENCES"
    one_each
}

# evidence NAME: keeps what a failed check has left, and the state of the fleet.
evidence() {
    local kept=$DATA/logs/check-$1
    rm -rf "$kept"
    cp -R "$WORK" "$kept"
    kube get pods --output wide >"$kept/pods" 2>&1 || true
    kube get events --sort-by .lastTimestamp >"$kept/events" 2>&1 || true
    kube logs --selector app.kubernetes.io/part-of=sosohappy --prefix --tail 500 --max-log-requests 30 >"$kept/pods.log" 2>&1 || true
    say "what it has left is in $kept"
}

write_figures() { python3 "$CLUSTER_D/figures.py" docs/performance.md "$@"; }
