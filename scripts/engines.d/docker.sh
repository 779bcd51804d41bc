# The engines as containers, if a docker engine responds. Sourced by scripts/engines.
# shellcheck shell=bash

docker_answers() { has docker && docker compose version >/dev/null 2>&1 && docker info >/dev/null 2>&1; }

# Each data folder has its own containers, named by a checksum of its path.
compose() {
    local project engine file name
    project=sosohappy-engines-$(printf '%s' "$ENGINES_DIR" | cksum | cut -d ' ' -f 1)
    (
        for engine in kafka mysql mongodb; do
            export "SOSOHAPPY_$(upper "$engine")_PORT=$(cat "$ENGINES_DIR/$engine/port" 2>/dev/null || say 0)"
            for file in "$ENGINES_DIR/$engine"/*-port; do
                [ -e "$file" ] || continue
                name=$(basename "$file" -port)
                export "SOSOHAPPY_$(upper "$engine")_$(upper "$name")_PORT=$(cat "$file")"
            done
        done
        export SOSOHAPPY_TLS_DIR=$TLS_DIR SOSOHAPPY_TEST_PASSWORD
        SOSOHAPPY_TEST_PASSWORD=$(cat "$TLS_DIR/password" 2>/dev/null || true)
        exec docker compose -p "$project" -f "$ROOT/docker/engines.yaml" "$@"
    )
}

docker_up() { told "start containers and wait for them: $*" compose up --detach --wait --wait-timeout 300 "$@"; }

docker_running() { [ -n "$(compose ps --quiet --status running "$1" 2>/dev/null)" ]; }
