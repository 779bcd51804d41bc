# Faults, one for each check: with it the check must fail, with the text of SAYS. Sourced by scripts/compose after checks.sh.
# shellcheck shell=bash disable=SC2034 # for lib/checks.sh

# What a check says when it has found its fault.
declare -A SAYS=(
    [healthy]="notice is 'exited 0'"
    [demo]="the demo failed"
    [hardened]="feed: its root can be written"
    [loopback]="0.0.0.0:18888 is published"
    [acls]="feed can write accessToken"
    [scraped]="Prometheus reaches all services: not within"
    [services]="the fleet is ready: not within"
    [engines]="something that was acknowledged is missing or doubled"
    [crash]="feed is started again: not within"
)

# Seconds that a check with its fault waits for what does not come.
declare -A IN_VAIN=([demo]=60 [scraped]=45 [services]=45 [crash]=45)

break_healthy() { compose stop notice >/dev/null 2>&1; }

# dm does not answer. docker compose would start a container that is paused or stopped.
break_demo() { in_engine kill -STOP "$(inspected '{{.State.Pid}}' dm)"; }

break_hardened() {
    printf 'services: { feed: { read_only: false } }\n' >"$WORK/soft.yaml"
    compose --file "$WORK/soft.yaml" up --detach --no-build --no-deps feed >/dev/null 2>&1
}

# A container publishes a port without an address.
break_loopback() {
    docker run --detach --name "$PROJECT-open" --label "com.docker.compose.project=$PROJECT" --publish 18888:8888 "$(image_of images-owner)" sleep 600 >/dev/null
}

break_acls() {
    compose exec --no-TTY kafka /opt/kafka/bin/kafka-acls.sh --bootstrap-server 127.0.0.1:9094 --add --allow-principal User:feed --operation Write \
        --topic accessToken >/dev/null
}

break_scraped() { docker pause "$(container feed)" >/dev/null; }

# The first service does not come back.
break_services() { compose stop config >/dev/null 2>&1; }

# The posts of feed are deleted.
break_engines() {
    # shellcheck disable=SC2016 # expanded in the container
    compose exec --no-TTY mysql sh -c 'MYSQL_PWD="$MYSQL_ROOT_PASSWORD" mysql --protocol=tcp --host=127.0.0.1 --user=root --execute="SET foreign_key_checks = 0; DELETE FROM post" feed'
}

break_crash() { docker update --restart no "$(container feed)" >/dev/null; }
