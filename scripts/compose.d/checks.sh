# Checks of the fleet in docker/compose.yaml. Sourced by scripts/compose.
# shellcheck shell=bash disable=SC2119 # the argument of people_end can be left out

# shellcheck source=scripts/lib/checks.sh
. scripts/lib/checks.sh

SERVICES=(config auth feed dm notice)
# shellcheck disable=SC2034 # for lib/checks.sh
CHECKS=(healthy demo hardened loopback acls scraped services engines crash)
ENGINES=(kafka mysql mongodb)
# The services that end when they have done their work.
ONCE=(images-owner topics rights)
READINESS="http://127.0.0.1:{8888,8890,8891,8889,8892}/actuator/health/readiness"

container() { compose ps --all --quiet "$1"; }

# inspected FORMAT SERVICE
inspected() { docker inspect --format "$1" "$(container "$2")"; }

# until_true SECONDS TEXT COMMAND…
until_true() {
    local seconds=$1 deadline=$((SECONDS + $1)) text=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$deadline" ] || fail "$text: not within $seconds s"
        sleep 0.3
    done
}

fleet_is_ready() { in_network curl --silent --fail --fail-early --max-time 10 --output /dev/null "$READINESS"; }

engine_is_healthy() { [ "$(inspected '{{.State.Status}} {{.State.Health.Status}}' "$1")" = "running healthy" ]; }

# in_background FILE COMMAND…: runs a command in the engine's network; its pid is in BACKGROUND.
in_background() {
    local file=$1 enter=()
    shift
    ! own_engine || enter=(nsenter --target "$(running "$ENGINE")" --net --)
    (exec "${enter[@]}" "$@") >"$file" 2>&1 </dev/null 9>&- &
    BACKGROUND=$!
    begun "$BACKGROUND"
}

# The services have the ports of 127.0.0.1 that `fleet demo` knows.
addresses() { :; }

# Each container runs, and is healthy if it can say so; those of ONCE have succeeded.
check_healthy() {
    local service state healthy=0
    faulty healthy
    while read -r service; do
        state=$(inspected '{{.State.Status}}{{with .State.Health}} {{.Status}}{{end}} {{.State.ExitCode}}' "$service")
        say "$service: $state, restarted $(inspected '{{.RestartCount}}' "$service") times"
        if [[ " ${ONCE[*]} " == *" $service "* ]]; then
            [ "$state" = "exited 0" ] || fail "$service is '$state'"
        else
            [ "$state" = "running healthy 0" ] || [ "$state" = "running 0" ] || fail "$service is '$state'"
            [ "$state" = "running 0" ] || healthy=$((healthy + 1))
        fi
    done < <(started)
    seen "$(started | wc -l) containers: $healthy are healthy, ${#ONCE[@]} have succeeded"
}

check_demo() {
    local began=$SECONDS
    faulty demo
    timeout "$PATIENCE" scripts/compose compose run --rm demo >"$WORK/demo" 2>&1 || fail "the demo failed: $(tail -n 3 "$WORK/demo")"
    tail -n 1 "$WORK/demo"
    seen "the demo took $((SECONDS - began)) s"
}

# What the kernel says of each container that has x-hardened.
check_hardened() {
    local service pid status root
    faulty hardened
    for service in "${SERVICES[@]}" ready prometheus; do
        pid=$(inspected '{{.State.Pid}}' "$service")
        status=$(in_engine cat "/proc/$pid/status")
        # shellcheck disable=SC2016 # of awk
        root=$(in_engine awk '$5 == "/" { print $6 }' "/proc/$pid/mountinfo")
        [[ $root == ro,* ]] || fail "$service: its root can be written: $root"
        ! grep '^Cap' <<<"$status" | grep -qv '0000000000000000$' || fail "$service has capabilities: $(grep '^Cap' <<<"$status" | paste -sd ' ')"
        grep -qx $'NoNewPrivs:\t1' <<<"$status" || fail "$service can gain privileges"
        grep -qx $'Seccomp:\t2' <<<"$status" || fail "$service may make all system calls"
        ! grep -q $'^Uid:\t0\t' <<<"$status" || fail "$service runs as root"
    done
    for service in "${SERVICES[@]}"; do
        pid=$(inspected '{{.State.Pid}}' "$service")
        in_engine grep -qx $'Uid:\t65532\t65532\t65532\t65532' "/proc/$pid/status" || fail "$service does not run as user 65532"
    done
    seen "$((${#SERVICES[@]} + 2)) containers have a read-only root, no capabilities, no new privileges and a filter of system calls"
}

# What listens in the engine's network, and the ports that containers publish.
check_loopback() {
    local address ports=0
    # shellcheck disable=SC2016 # of docker's template
    local published='{{range $port, $to := .NetworkSettings.Ports}}{{range $to}}{{.HostIp}}:{{.HostPort}}{{"\n"}}{{end}}{{end}}'
    faulty loopback
    while read -r address; do
        [[ $address == 127.0.0.1:* ]] || fail "$address is published"
        ports=$((ports + 1))
    done < <(docker ps --quiet --filter "label=com.docker.compose.project=$PROJECT" |
        xargs docker inspect --format "$published" | sed '/^$/d')
    [ "$ports" -ge ${#SERVICES[@]} ] || fail "only $ports ports are published"
    if own_engine; then
        while read -r _ _ _ _ address _; do
            [[ $address == 127.0.0.1:* ]] || fail "$address listens"
        done < <(in_network ss --no-header --listening --tcp --udp --numeric)
    fi
    seen "$ports ports are published, all of them on 127.0.0.1"
}

# from_env NAME: a value of docker/.env.
from_env() { sed -n "s/^$1=//p" docker/.env; }

# client USER PASSWORD: writes the settings of a client to a file in Kafka's container. The password appears in no list of processes.
client() {
    {
        say security.protocol=SASL_SSL
        say sasl.mechanism=PLAIN
        say "sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username=\"$1\" password=\"$2\";"
        say ssl.truststore.type=PEM
        say "ssl.truststore.certificates=$(paste -sd ' ' docker/tls/ca.pem)"
    } | compose exec --no-TTY kafka bash -c 'umask 077 && cat >/tmp/client.properties'
}

# kafka_tool TOOL OPTION…: runs one of Kafka's tools as the last client.
kafka_tool() { compose exec --no-TTY kafka "/opt/kafka/bin/kafka-$1.sh" --bootstrap-server kafka:9092 "${@:2}" 2>&1; }

# Writes a tombstone for a key that does not exist.
write_token() {
    printf 'check:none\n' | kafka_tool console-producer --producer.config /tmp/client.properties --sync --topic accessToken \
        --property parse.key=true --property key.separator=: --property null.marker=none
}

# feed reads access tokens, and cannot write them.
check_acls() {
    local answer
    faulty acls
    client feed wrong
    answer=$(kafka_tool topics --command-config /tmp/client.properties --list) && fail "a wrong password is accepted"
    [[ $answer == *SaslAuthenticationException* ]] || fail "a wrong password is refused for another reason: $(tail -n 5 <<<"$answer")"
    client feed "$(from_env KAFKA_FEED_PASSWORD)"
    # The topics that the account may read or write.
    answer=$(kafka_tool topics --command-config /tmp/client.properties --list) || fail "feed cannot list topics: $(tail -n 5 <<<"$answer")"
    grep -qx accessToken <<<"$answer" || fail "feed does not see accessToken: $(tail -n 5 <<<"$answer")"
    answer=$(write_token) && fail "feed can write accessToken"
    [[ $answer == *TopicAuthorizationException* ]] || fail "feed cannot write accessToken for another reason: $(tail -n 5 <<<"$answer")"
    seen "Kafka refuses a wrong password, and refuses feed's account when it writes accessToken"
}

# targets_are_up TIME: whether Prometheus has scraped all services since then.
targets_are_up() {
    in_network curl --silent --fail --max-time 10 http://127.0.0.1:9090/api/v1/targets | python3 -c 'import json, sys
targets = [target for target in json.load(sys.stdin)["data"]["activeTargets"] if target["labels"]["job"] == "sosohappy"]
up = [target for target in targets if target["health"] == "up" and target["lastScrape"] > sys.argv[2]]
sys.exit(len(up) != int(sys.argv[1]))' ${#SERVICES[@]} "$1"
}

rules() {
    in_network curl --silent --fail --max-time 10 http://127.0.0.1:9090/api/v1/rules | python3 -c 'import json, sys
print(sum(len(group["rules"]) for group in json.load(sys.stdin)["data"]["groups"]))'
}

check_scraped() {
    local rules
    faulty scraped
    until_true "$PATIENCE" "Prometheus reaches all services" targets_are_up "$(date --utc +%FT%T)"
    rules=$(rules)
    [ "$rules" -gt 0 ] || fail "Prometheus has no rules"
    seen "Prometheus reaches ${#SERVICES[@]} services, and has $rules rules"
}

# Each service's container is restarted.
check_services() {
    local service began
    people_begin
    for service in "${SERVICES[@]}"; do
        began=$SECONDS
        compose restart "$service" >/dev/null 2>&1
        faulty services
        until_true "$PATIENCE" "the fleet is ready" fleet_is_ready
        seen "$service: restarted, the fleet is ready after $((SECONDS - began)) s"
    done
    people_end
}

# Each engine's container is restarted.
check_engines() {
    local engine began before
    before=$(services_now)
    people_begin
    for engine in "${ENGINES[@]}"; do
        began=$SECONDS
        compose restart "$engine" >/dev/null 2>&1
        until_true "$PATIENCE" "$engine is healthy" engine_is_healthy "$engine"
        seen "$engine: restarted, healthy after $((SECONDS - began)) s"
    done
    until_true "$PATIENCE" "the fleet is ready" fleet_is_ready
    faulty engines
    people_end
    [ "$before" = "$(services_now)" ] || fail "a service was restarted"
    seen "no service was restarted"
}

# When each service was started, to be compared.
services_now() { for service in "${SERVICES[@]}"; do inspected '{{.State.StartedAt}}' "$service"; done; }

restarted_after() { [ "$(inspected '{{.State.Status}} {{.RestartCount}}' "$1")" = "running $(($2 + 1))" ]; }

# The process of each container is killed: the engine starts it again.
check_crash() {
    local service began before
    people_begin
    faulty crash
    for service in "${SERVICES[@]}" "${ENGINES[@]}"; do
        began=$SECONDS
        before=$(inspected '{{.RestartCount}}' "$service")
        in_engine kill -KILL "$(inspected '{{.State.Pid}}' "$service")"
        until_true "$PATIENCE" "$service is started again" restarted_after "$service" "$before"
        [[ " ${ENGINES[*]} " != *" $service "* ]] || until_true "$PATIENCE" "$service is healthy" engine_is_healthy "$service"
        until_true "$PATIENCE" "the fleet is ready" fleet_is_ready
        seen "$service: killed, the fleet is ready after $((SECONDS - began)) s"
    done
    people_end
}

# The state that each check begins with, after one that has failed.
restored() {
    local services
    docker ps --quiet --filter status=paused | xargs --no-run-if-empty docker unpause
    docker rm --force "$PROJECT-open" >/dev/null 2>&1
    # A demo that did not end.
    docker ps --all --quiet --filter "label=com.docker.compose.project=$PROJECT" --filter label=com.docker.compose.oneoff=True |
        xargs --no-run-if-empty docker rm --force
    # Containers that a fault has changed are made again, and those that have ended are started again: rights deletes the ACL of the fault. Without
    # --wait, which fails at once while `ready` is unhealthy.
    mapfile -t services < <(started)
    compose up --detach --no-build "${services[@]}"
    [ "$1" != demo ] || in_engine kill -CONT "$(inspected '{{.State.Pid}}' dm)"
    [ "$1" != crash ] || docker update --restart unless-stopped "$(container feed)"
    until_true "$PATIENCE" "the fleet is ready" fleet_is_ready
    until_true "$PATIENCE" "ready is healthy" engine_is_healthy ready
}

# evidence NAME: keeps what a failed check has left, and the state of the fleet.
evidence() {
    local kept=$COMPOSE_DIR/logs/check-$1
    rm -rf "$kept"
    mkdir -p "$COMPOSE_DIR/logs"
    cp -R "$WORK" "$kept"
    compose ps --all >"$kept/containers" 2>&1 || true
    compose logs --no-color --timestamps --tail 500 >"$kept/containers.log" 2>&1 || true
    say "what it has left is in $kept"
}
