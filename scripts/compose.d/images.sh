# Images of docker/compose.yaml, under the names that the file has: pulled where the engine can, otherwise made as scripts/lib/images.sh does. Sourced by
# scripts/compose after images.sh.
# shellcheck shell=bash

# What the images have that are no engines of the fleet.
TOOL_PACKAGES=(busybox-static ca-certificates curl libgcc-s1 tzdata)
TOOLS_HOME=$CACHE/tools/compose-layers-$(printf '%s\n' "${TOOL_PACKAGES[@]}" "$(cat /etc/debian_version 2>/dev/null)" | cksum | cut -d ' ' -f 1)
# The label of images that are made here.
MADE=dev.sosohappy.compose

fetch_tool_packages() {
    local root=$TOOLS_HOME/unpacked/root name
    unpacked "$TOOLS_HOME/unpacked" "${TOOL_PACKAGES[@]}" && bundled_certificates "$root" || return
    for name in chown sh sleep wget; do ln -sf busybox "$root/usr/bin/$name"; done
    packed "$root" "$TOOLS_HOME/tools.tar" && rm -rf "$TOOLS_HOME/unpacked"
}

fetch_stand_ins() {
    fetch_engine_images
    fetch_prometheus
    [ -e "$TOOLS_HOME/.filled" ] || told "fetch the packages of the other images, once" once "$TOOLS_HOME" fetch_tool_packages
}

# image_of SERVICE: the name of its image in docker/compose.yaml.
image_of() { sed -n "/^  $1:/,/^  [a-z]/s/^    image: //p" docker/compose.yaml; }

# Writes the list of all stand-ins.
make_stand_ins() {
    local tools=$TOOLS_HOME/tools.tar path='"Env": ["PATH=/usr/bin:/bin"]'
    make_engine_images &&
        layer prometheus "$(prometheus_program)" usr/bin/prometheus "$LAYERS/made/data" prometheus || return
    {
        image "docker.io/library/$(image_of images-owner)" "{\"Cmd\": [\"sh\"], $path}" "$tools"
        image "docker.io/$(image_of ready)" "{\"User\": \"100:101\", \"Entrypoint\": [\"curl\"], $path}" "$tools"
        image "docker.io/$(image_of prometheus)" "{\"User\": \"65534:65534\", \"WorkingDir\": \"/prometheus\", \"Entrypoint\": [\"/bin/prometheus\"], $path}" \
            "$tools" "$LAYERS/prometheus.tar"
    } >>"$LAYERS/engines.json"
}

has_image() { docker image inspect "$1" >/dev/null 2>&1; }

# pulled IMAGE: our own engine has no way to a registry.
pulled() { ! own_engine && timeout 600 docker pull --quiet "$1" >/dev/null 2>&1; }

# load_images LIST [IMAGE…]: loads the images of a list into the engine, or those of it that are named.
load_images() {
    local list=$1 names
    shift
    names=$(printf '%s\n' "$@")
    while IFS= read -r line; do
        # As docker/compose.yaml names it: without the registry of docker's.
        [[ $line =~ \"name\":\ \"docker.io/(library/)?([^\"]*)\" ]]
        if [ $# -eq 0 ] || grep -qxF "${BASH_REMATCH[2]}" <<<"$names"; then
            # Without a tag images.py would add a name with the digest, which only a registry has.
            [[ ${BASH_REMATCH[2]} == *:* ]] || line=${line/"${BASH_REMATCH[2]}\""/"${BASH_REMATCH[2]}:latest\""}
            say "${line/"\"config\": {"/"\"config\": {\"Labels\": {\"$MADE\": \"made\"}, "}"
        fi
    done <"$list" | python3 scripts/lib/images.py /dev/null | docker load --quiet
}

# provide_images FOLDER: the images of the services are made of the programs in the folder; the others are pulled, or made where that fails. Those of
# LEFT_OUT are in the file left-out afterwards, if they can be neither.
provide_images() {
    local image service missing=()
    mkdir -p "$LAYERS"
    # A process substitution would hide that reading the file fails.
    images_of_services >"$LAYERS/images"
    while read -r service image; do
        case $image in sosohappy/*) continue ;; esac
        has_image "$image" || pulled "$image" || missing+=("$image")
    done <"$LAYERS/images"
    if [ ${#missing[@]} -gt 0 ]; then
        fetch_stand_ins
        told "make stand-ins of images that cannot be pulled" make_stand_ins
        told "load them" load_images "$LAYERS/engines.json" "${missing[@]}"
    else
        # The images of programs are made of them, too.
        fetch_engine_images
    fi
    told "make the images of the services" make_program_images "$1"
    told "load them" load_images "$LAYERS/programs.json"
    : >"$COMPOSE_DIR/left-out"
    while read -r service image; do
        has_image "$image" || say "$service" >>"$COMPOSE_DIR/left-out"
    done <"$LAYERS/images"
    rm -rf "$LAYERS"
    [ ! -s "$COMPOSE_DIR/left-out" ] || say "left out, without an image: $(paste -sd ' ' "$COMPOSE_DIR/left-out")"
}
