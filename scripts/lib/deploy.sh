# Shared by scripts/deploy and scripts/blue-green: options, rendering, applying, waiting. Sourced, not run.
# shellcheck shell=bash disable=SC2034 # used by the scripts that source this file

SERVICES=(config auth feed dm notice)
FOLLOWERS=(auth feed dm notice)
PATIENCE=${SOSOHAPPY_DEPLOY_PATIENCE:-10m}
# Components of k8s/ that are added to the overlay.
COMPONENTS=()

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

# parse ARGUMENT…: stores options in DRY, REBUILD, IMAGES, DEMO, PUSH, STATE and FIRST, other arguments in words.
parse() {
    local name
    DRY='' REBUILD='' IMAGES='' DEMO='' PUSH='' STATE=$WORK
    FIRST=() words=()
    while [ $# -gt 0 ]; do
        case $1 in
        --dry-run) DRY=yes ;;
        --rebuild) REBUILD=yes ;;
        --images | --demo | --push | --state)
            [ $# -gt 1 ] || fail "$1 needs a value"
            case $1 in
            --images) IMAGES=$2 ;;
            --demo) DEMO=$2 ;;
            --push) PUSH=$2 ;;
            --state) STATE=$2 ;;
            esac
            shift
            ;;
        --first)
            [ $# -gt 1 ] || fail "$1 needs a value"
            IFS=, read -r -a FIRST <<<"$2"
            for name in "${FIRST[@]}"; do
                case " ${FOLLOWERS[*]} " in *" $name "*) ;; *) fail "--first: unknown service '$name'; known are: ${FOLLOWERS[*]}" ;; esac
            done
            shift
            ;;
        -h | --help | help)
            usage
            exit 0
            ;;
        -*) fail "unknown option '$1'" ;;
        *) words+=("$1") ;;
        esac
        shift
    done
}

# run COMMAND…: runs a command that changes something, or prints it in a dry run.
run() {
    if [ -n "$DRY" ]; then printf '+ %s\n' "$*"; else "$@"; fi
}

kustomize_build() {
    if has kustomize; then
        kustomize build "$1"
    elif has kubectl; then
        kubectl kustomize "$1"
    else
        fail "missing: kustomize or kubectl"
    fi
}

overlay() {
    if [ -z "${1:-}" ] || [ ! -f "k8s/overlays/$1/kustomization.yaml" ]; then
        fail "an overlay is required: $(cd k8s/overlays && echo *)"
    fi
    OVERLAY=k8s/overlays/$1
    NAMESPACE=$(sed -n 's/^namespace: //p' "$OVERLAY/kustomization.yaml")
}

from_work() { realpath --relative-to="$(realpath "$WORK")" "$1"; }

# Prints IMAGES as the field of a kustomization.
image_list() {
    local name reference
    printf 'images:\n'
    while IFS='=' read -r name reference; do
        case $reference in
        *@sha256:*) ;;
        *) fail "$IMAGES: the reference of $name has no digest: $reference" ;;
        esac
        printf '  - { name: sosohappy/%s, newName: "%s", digest: "%s" }\n' "$name" "${reference%@*}" "${reference#*@}"
    done <"$IMAGES"
}

# Renders the overlay with COMPONENTS, and its images set by digest.
render() {
    local component
    {
        printf 'apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n  - %s\n' "$(from_work "$OVERLAY")"
        if [ ${#COMPONENTS[@]} -gt 0 ]; then
            printf 'components:\n'
            for component in "${COMPONENTS[@]}"; do printf '  - %s\n' "$(from_work "k8s/$component")"; done
        fi
        [ -z "$IMAGES" ] || image_list
    } >"$WORK/kustomization.yaml"
    kustomize_build "$WORK"
}

kube() { kubectl --namespace "$NAMESPACE" "$@"; }

change() { run kubectl --namespace "$NAMESPACE" "$@"; }

apply_labelled() { change apply --filename "$STATE/rendered.yaml" --selector "$1"; }

rolled_out() { change rollout status "$1" --timeout "$PATIENCE"; }

# Prints the colour that receives the traffic: blue, green, or nothing for a fleet without colours.
live() { [ -n "$DRY" ] || kube get service feed --output 'jsonpath={.spec.selector.sosohappy/colour}' 2>/dev/null || true; }

# rendered_has KIND NAME: returns whether the rendered manifests contain the object.
rendered_has() {
    awk -v kind="kind: $1" -v name="  name: $2" '
        /^---$/ { of_kind = 0 }
        $0 == kind { of_kind = 1 }
        of_kind && $0 == name { found = 1 }
        END { exit !found }' "$STATE/rendered.yaml"
}

# completed NAME: waits until the Job has completed. Fails as soon as it has failed, with the ends of its pods' logs: `kubectl wait` knows one condition
# only, and would wait for a completion long after the failure.
completed() {
    if [ -n "$DRY" ]; then
        change wait --for=condition=complete --timeout "$PATIENCE" "job/$1"
        return
    fi
    # shellcheck disable=SC2016 # expanded by the other shell
    timeout --foreground "$PATIENCE" bash -c '
        until [[ $(kubectl --namespace "$1" get job "$2" --output "jsonpath={.status.conditions[*].type}") =~ (Complete|Failed)$ ]]; do sleep 1; done
        [ "${BASH_REMATCH[1]}" = Complete ]' completed "$NAMESPACE" "$1" && return
    warn "job/$1 has not completed; its pods, and the ends of their logs:"
    kube get pods --selector "job-name=$1" --output wide >&2 || true
    kube logs --selector "job-name=$1" --prefix --tail 5 >&2 || true
    return 1
}

# Applies engines, settings and policies, then the topics. The services follow.
prepare_engines() {
    local engine
    apply_labelled 'app.kubernetes.io/component!=service,app.kubernetes.io/component!=job'
    for engine in kafka mongodb mysql; do
        # An engine that an operator runs has no StatefulSet here.
        ! rendered_has StatefulSet "$engine" || rolled_out "statefulset/$engine" || fail "$engine is not ready"
    done
    ! rendered_has Deployment entry || rolled_out deployment/entry || fail "the balancer entry is not ready"
    if rendered_has Kafka fleet; then
        # Strimzi: waits for the brokers, the topics, and the accounts of the services, to whose passwords pods refer.
        for engine in kafka/fleet kafkatopic kafkauser; do
            case $engine in */*) ;; *) engine="$engine --all" ;; esac
            # shellcheck disable=SC2086 # two words
            change wait --for=condition=Ready --timeout "$PATIENCE" $engine || fail "$engine: not ready: kubectl describe $engine"
        done
    fi
    if rendered_has Job topics; then
        # A Job is immutable, and a completed one does not run again. Its pods go first: those of the new one would be counted with them.
        change delete --ignore-not-found --cascade=foreground --timeout "$PATIENCE" job topics
        apply_labelled 'app.kubernetes.io/component=job'
        completed topics || fail "creating the topics failed"
    fi
}
