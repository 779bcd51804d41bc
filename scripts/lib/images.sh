# Images made without a registry and without a docker engine: layers from Debian's packages, and programs on top of them. Those of engines are
# stand-ins under the engines' own names. Sourced after common.sh and packages.sh; LAYERS is the folder for layers and lists of images.
# shellcheck shell=bash

# shellcheck disable=SC2034,SC2153 # for the files that are sourced here
ENGINES_D=$ROOT/scripts/engines.d
# shellcheck source=scripts/engines.d/kafka.sh
. scripts/engines.d/kafka.sh
# shellcheck source=scripts/engines.d/mongodb.sh
. scripts/engines.d/mongodb.sh

# As gcr.io/distroless/cc-debian12, on which docker/Dockerfile builds: libc, libgcc, libssl, certificate authorities and time zones. Binaries that
# were built outside the Dockerfile link zlib dynamically.
SERVICE_PACKAGES=(ca-certificates libgcc-s1 tzdata zlib1g)
ENGINE_PACKAGES=(bash coreutils findutils grep sed default-jre-headless mariadb-client-core mariadb-server-core python3)
PACKAGES_HOME=$CACHE/tools/cluster-layers-$(printf '%s\n' "${SERVICE_PACKAGES[@]}" "${ENGINE_PACKAGES[@]}" "$(cat /etc/debian_version 2>/dev/null)" | cksum | cut -d ' ' -f 1)
WHEELS_HOME=$PACKAGES_HOME-secantusdb-$SECANTUS_VERSION
PROGRAMS=(config auth feed dm notice fleet)

fetch_packages() {
    local root=$PACKAGES_HOME/services/root
    unpacked "$PACKAGES_HOME/services" "${SERVICE_PACKAGES[@]}" && unpacked "$PACKAGES_HOME/engines" "${ENGINE_PACKAGES[@]}" || return
    # An installation would make this link.
    ln -sf bash "$PACKAGES_HOME/engines/root/usr/bin/sh"
    bundled_certificates "$root"
    packed "$root" "$PACKAGES_HOME/services.tar" && packed "$PACKAGES_HOME/engines/root" "$PACKAGES_HOME/engines.tar" || return
    python_of_engines >"$PACKAGES_HOME/python-version"
    rm -rf "$PACKAGES_HOME/services" "$PACKAGES_HOME/engines"
}

python_of_engines() { basename "$PACKAGES_HOME"/engines/root/usr/lib/python3.* | sed 's/python//'; }

# SecantusDB for the Python of the image, which may differ from this machine's.
fetch_wheels() {
    local platforms=() minor machine
    machine=$(uname -m)
    for minor in 17 24 26 27 28; do platforms+=(--platform "manylinux_2_${minor}_$machine"); done
    python3 -m venv "$WHEELS_HOME/venv" &&
        "$WHEELS_HOME/venv/bin/pip" install --no-input --no-compile --disable-pip-version-check --target "$WHEELS_HOME/root/opt/secantusdb" \
            --only-binary :all: --python-version "$(cat "$PACKAGES_HOME/python-version")" "${platforms[@]}" --platform "manylinux2014_$machine" \
            "secantusdb==$SECANTUS_VERSION" 'pymongo>=4.10,<5' &&
        rm -rf "$WHEELS_HOME/venv"
}

fetch_engine_images() {
    has apt-get || fail "the images of the engines are made of Debian's packages: apt-get is missing"
    kafka_prepare
    [ -e "$PACKAGES_HOME/.filled" ] || told "fetch the packages of the images, once" once "$PACKAGES_HOME" fetch_packages
    [ -e "$WHEELS_HOME/.filled" ] || told "fetch SecantusDB $SECANTUS_VERSION for its image, once" once "$WHEELS_HOME" fetch_wheels
}

# layer NAME [SOURCE TARGET]…: writes a layer with these files, each readable and executable as its source is.
layer() {
    local name=$1 root=$LAYERS/$1
    shift
    rm -rf "$root"
    while [ $# -gt 0 ]; do
        mkdir -p "$root/$(dirname "$2")" && cp -R --preserve=mode "$1" "$root/$2" || return
        shift 2
    done
    packed "$root" "$LAYERS/$name.tar" && rm -rf "$root"
}

# image NAME CONFIG LAYER…: a line for images.py.
image() {
    local name=$1 config=$2 layers=''
    shift 2
    while [ $# -gt 0 ]; do
        layers+="${layers:+, }\"$1\""
        shift
    done
    printf '{"name": "%s", "config": %s, "layers": [%s]}\n' "$name" "$config" "$layers"
}

# engine_image ENGINE: the full name of the image in the engine's manifest.
engine_image() {
    local name
    name=$(sed -n 's/^ *image: //p' "k8s/base/$1/statefulset.yaml" | head -n 1)
    case $name in
    */*) say "docker.io/$name" ;;
    *) say "docker.io/library/$name" ;;
    esac
}

make_engine_images() {
    local path='"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"]' images=$ROOT/scripts/lib/images data=$LAYERS/made/data tool tools=()
    for tool in acls broker-api-versions configs console-producer consumer-groups topics; do tools+=("$images/kafka-tool" "opt/kafka/bin/kafka-$tool.sh"); done
    # The folders of volumes: a new volume of docker's gets the mode of the image's folder. Those of the engines' own images belong to their users.
    mkdir -p "$data" && chmod 1777 "$data" || return
    layer kafka "$KAFKA_HOME/jars" opt/kafka/jars "$KAFKA_TOOLS_HOME/jars" opt/kafka/tools "$ENGINES_D/kafka-log4j2.properties" opt/kafka/log4j2.properties \
        "$images/kafka" etc/kafka/docker/run "${tools[@]}" "$data" var/lib/kafka/data &&
        layer mysql "$images/mysql" usr/local/bin/docker-entrypoint.sh "$data" var/lib/mysql "$data" var/run/mysqld &&
        layer mongodb "$WHEELS_HOME/root/opt/secantusdb" opt/secantusdb "$images/mongod" usr/local/bin/mongod "$images/mongosh" usr/local/bin/mongosh \
            "$data" data/db || return
    {
        image "$(engine_image kafka)" "{\"User\": \"1000:1000\", \"Entrypoint\": [\"/etc/kafka/docker/run\"], $path}" "$PACKAGES_HOME/engines.tar" "$LAYERS/kafka.tar"
        image "$(engine_image mysql)" "{\"User\": \"999:999\", \"Entrypoint\": [\"docker-entrypoint.sh\"], \"Cmd\": [\"mysqld\"], $path}" "$PACKAGES_HOME/engines.tar" "$LAYERS/mysql.tar"
        image "$(engine_image mongodb)" "{\"Entrypoint\": [\"mongod\"], $path}" "$PACKAGES_HOME/engines.tar" "$LAYERS/mongodb.tar"
    } >"$LAYERS/engines.json"
}

# make_program_images FOLDER: as the last stage of docker/Dockerfile, with the programs of the folder.
make_program_images() {
    local name binary config
    config='{"User": "65532:65532", "WorkingDir": "/", "StopSignal": "SIGTERM", "Entrypoint": ["/usr/local/bin/server"],
        "Env": ["PATH=/usr/local/bin:/usr/bin", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"]}'
    mkdir -p "$LAYERS/made"
    for name in "${PROGRAMS[@]}"; do
        binary=$LAYERS/made/$name
        strip --strip-debug -o "$binary" "$1/$(program "$name")" && chmod 0555 "$binary" && layer "$name" "$binary" usr/local/bin/server || return
        image "docker.io/sosohappy/$name" "${config//$'\n'/}" "$PACKAGES_HOME/services.tar" "$LAYERS/$name.tar"
    done >"$LAYERS/programs.json"
    rm -rf "$LAYERS/made"
}

program() { if [ "$1" = fleet ]; then say fleet; else say "sosohappy-$1"; fi; }

has_programs() {
    local name
    for name in "${PROGRAMS[@]}"; do
        [ -x "$1/$(program "$name")" ] || fail "$1/$(program "$name") is not built: cargo build --workspace --bins"
    done
}
