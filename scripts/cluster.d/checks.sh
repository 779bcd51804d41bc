# Checks of the fleet in the cluster, each under the load of people who post, like and write to each other. Sourced by scripts/cluster.
# shellcheck shell=bash

SERVICES=(config auth feed dm notice)
ENGINES=(kafka mysql mongodb)
# The cheapest first.
CHECKS=(refused traffic restart credentials edges engines drain pods bad-image sick)

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
    STARTED+=("$BACKGROUND")
}

# said FILE TEXT PID: waits until the program has printed the text.
said() {
    local deadline=$((SECONDS + PATIENCE))
    until grep -qs "$2" "$1"; do
        if ! kill -0 "$3" 2>/dev/null || [ "$SECONDS" -ge "$deadline" ]; then fail "'$2' was not printed: $(tail -n 5 "$1")"; fi
        sleep 0.2
    done
}

people_begin() {
    local to
    mapfile -t to < <(addresses)
    in_background "$WORK/people" "$PROGRAMS_LINK/fleet" demo "${to[@]}" --people 4 --rate 5
    PEOPLE=$BACKGROUND
    said "$WORK/people" 'are signed in' "$PEOPLE"
}

# people_end [FAILED]: ends the people. Fails if something acknowledged is missing or doubled, or if more calls than FAILED had to be repeated.
people_end() {
    local failed status=0
    kill -INT "$PEOPLE"
    wait "$PEOPLE" || status=$?
    grep -A4 ' calls, ' "$WORK/people" || tail -n 20 "$WORK/people"
    [ "$status" -eq 0 ] || fail "something that was acknowledged is missing or doubled"
    failed=$(sed -n 's/.* calls, \([0-9]*\) failed and were repeated.*/\1/p' "$WORK/people")
    [ -z "${1:-}" ] || [ "$failed" -le "$1" ] || fail "$failed calls failed, at most $1 may"
}

rolled_out() { kube rollout status "$1" --timeout "${PATIENCE}s" >/dev/null; }

# The pods and restarts of the services, to be compared.
services_now() {
    kube get pods --selector app.kubernetes.io/component=service --sort-by .metadata.name \
        --output "jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[0].restartCount}{'\\n'}{end}"
}

check_traffic() {
    people_begin
    sleep 20
    people_end 0
}

# The namespace refuses what its label says.
check_refused() {
    local answer
    answer=$(kube run refused --image=sosohappy/config --privileged --dry-run=server 2>&1) && fail "a privileged pod was admitted"
    [[ $answer == *'violates PodSecurity "restricted'* ]] || fail "a privileged pod was refused for another reason: $answer"
    say "a privileged pod is refused"
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
    local name deadline
    edges_pod | kube apply --filename - >/dev/null
    until_true "$PATIENCE" "the pod runs" kube exec edges -- true
    for name in "${!EDGES[@]}"; do
        kube label --overwrite pod edges "app.kubernetes.io/name=$name" >/dev/null
        # The policies see the label a moment later.
        deadline=$((SECONDS + 30))
        until may_reach "$name"; do
            [ "$SECONDS" -lt "$deadline" ] || fail "$name reaches '$REACHED', and may reach '${EDGES[$name]}'"
        done
        say "$name reaches: ${REACHED:-nothing}"
    done
    kube delete pod edges >/dev/null
}

check_pods() {
    local service began
    people_begin
    for service in "${SERVICES[@]}"; do
        began=$SECONDS
        kube delete pod --selector "app.kubernetes.io/name=$service" --wait=false >/dev/null
        rolled_out "deployment/$service"
        say "$service: the only pod was deleted; its successor is ready after $((SECONDS - began)) s"
    done
    until_true "$PATIENCE" "the pods of before are gone" only_one_pod_each
    people_end
}

check_engines() {
    local engine before after began
    before=$(services_now)
    people_begin
    for engine in "${ENGINES[@]}"; do
        began=$SECONDS
        kube delete pod "$engine-0" --wait >/dev/null
        rolled_out "statefulset/$engine"
        say "$engine: the only pod was deleted; its successor is ready after $((SECONDS - began)) s"
    done
    people_end
    after=$(services_now)
    [ "$before" = "$after" ] || fail "a service was restarted:
$before
$after"
    say "no service was restarted"
}

check_restart() {
    local service began to sockets closed
    mapfile -t to < <(addresses_of auth dm notice)
    in_background "$WORK/sockets" python3 "$CLUSTER_D/sockets.py" "${to[@]}"
    sockets=$BACKGROUND
    until [ "$(grep -c '^open' "$WORK/sockets")" -eq 6 ]; do
        kill -0 "$sockets" 2>/dev/null || fail "sockets: $(cat "$WORK/sockets")"
        sleep 0.2
    done
    people_begin
    began=$SECONDS
    kube rollout restart deployment "${SERVICES[@]}" >/dev/null
    for service in "${SERVICES[@]}"; do rolled_out "deployment/$service"; done
    until_true "$PATIENCE" "the pods of before are gone" only_one_pod_each
    say "all five are restarted, side by side, and the pods of before are gone after $((SECONDS - began)) s"
    people_end 0
    kill "$sockets"
    wait "$sockets" || true
    closed=$(sed -n 's/^closed //p' "$WORK/sockets" | sort | uniq -c)
    say "sockets closed:" && say "$closed"
    [ "$(grep -c '^closed' "$WORK/sockets")" -ge 6 ] || fail "the sockets were not closed"
    ! grep '^closed' "$WORK/sockets" | grep -qv ' 1012$' || fail "a socket was closed without 1012"
}

only_one_pod_each() {
    [ "$(kube get pods --selector app.kubernetes.io/component=service --output name | wc -l)" -eq ${#SERVICES[@]} ]
}

# An image of feed that is not there: the node has no registry to pull it from. The others get their images of before, so that nothing else changes.
check_bad_image() {
    local before
    sed "/^feed=/s/@sha256:.*/@sha256:$(printf '%064d' 0)/" "$REFERENCES" >"$WORK/bad"
    before=$(services_now)
    people_begin
    ! SOSOHAPPY_DEPLOY_PATIENCE=60s scripts/deploy apply dev --images "$WORK/bad" >"$WORK/deploy" 2>&1 || fail "a roll-out of a missing image succeeded"
    grep '^rolling back' "$WORK/deploy" || fail "nothing was rolled back: $(tail -n 5 "$WORK/deploy")"
    people_end 0
    [ "$before" = "$(services_now)" ] || fail "the pods are not those of before"
    say "the pods are those of before"
}

# A drain stops at the budget of disruption: one of two replicas keeps running, because the node takes no successor.
check_drain() {
    local answer status=0
    kube scale deployment dm --replicas 2 >/dev/null
    rolled_out deployment/dm
    kube apply --filename k8s/base/dm/disruption.yaml >/dev/null
    until_true "$PATIENCE" "the budget is known" budget_is_known
    people_begin
    answer=$(kubectl drain node-1 --pod-selector app.kubernetes.io/name=dm --delete-emptydir-data --timeout 20s 2>&1) || status=$?
    kubectl uncordon node-1 >/dev/null
    [ "$status" -ne 0 ] || fail "the drain evicted both replicas"
    [[ $answer == *"would violate the pod's disruption budget"* ]] || fail "the drain ended for another reason: $answer"
    rolled_out deployment/dm
    people_end 0
    kube delete poddisruptionbudget dm >/dev/null
    kube scale deployment dm --replicas 1 >/dev/null
    until_true "$PATIENCE" "dm has one replica" only_one_pod_each
    say "the drain evicted one replica of two"
}

budget_is_known() { [ "$(kube get poddisruptionbudget dm --output 'jsonpath={.status.disruptionsAllowed}')" = 1 ]; }

# New credentials, under load: config and auth are restarted first, as docs/security.md says.
check_credentials() {
    local service began=$SECONDS
    people_begin
    kube delete secret fleet-credentials >/dev/null
    scripts/deploy secrets dev >/dev/null
    for service in config auth; do
        kube rollout restart "deployment/$service" >/dev/null
        rolled_out "deployment/$service"
    done
    kube rollout restart deployment feed dm notice >/dev/null
    for service in feed dm notice; do rolled_out "deployment/$service"; done
    say "all pods have the new credentials after $((SECONDS - began)) s"
    people_end
}

# A service that hangs: its process is stopped.
check_sick() {
    local uid pid
    uid=$(kube get pods --selector app.kubernetes.io/name=feed --output 'jsonpath={.items[0].metadata.uid}')
    pid=$(grep -ls "pod$uid" /proc/[0-9]*/cgroup | while IFS=/ read -r _ _ pid _; do
        ! grep -qs '/usr/local/bin/server' "/proc/$pid/cmdline" || say "$pid"
    done)
    [ -n "$pid" ] || fail "the process of feed is not found"
    people_begin
    kill -STOP "$pid"
    until_true "$PATIENCE" "feed is restarted" restarted_once "$uid"
    rolled_out deployment/feed
    people_end
    say "the kubelet has restarted a feed that hung"
}

restarted_once() {
    [ "$(kube get pods --selector app.kubernetes.io/name=feed --output "jsonpath={.items[?(@.metadata.uid=='$1')].status.containerStatuses[0].restartCount}")" -ge 1 ]
}

end_started() {
    local pid
    for pid in "${STARTED[@]}"; do kill "$pid" 2>/dev/null || true; done
    rm -rf "$WORK"
}

check() {
    local name
    [ -e "$PROGRAMS_LINK/fleet" ] || fail "the fleet is not in the cluster: scripts/cluster up --binaries DIR"
    for name in "$@"; do
        [[ " ${CHECKS[*]} " == *" $name "* ]] || fail "no check is called '$name': ${CHECKS[*]}"
    done
    [ $# -gt 0 ] || set -- "${CHECKS[@]}"
    WORK=$(mktemp -d) STARTED=()
    trap end_started EXIT
    trap 'exit 130' INT TERM
    for name in "$@"; do
        say "== $name"
        "check_${name//-/_}"
    done
    say "$# passed, 0 failed"
}
