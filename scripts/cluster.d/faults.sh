# Faults, one for each check: with it the check must fail, with the text of SAYS. Sourced by scripts/cluster after checks.sh.
# shellcheck shell=bash disable=SC2034 # for checks.sh

# What a check says when it has found its fault.
declare -A SAYS=(
    [refused]="a privileged pod was admitted"
    [traffic]="calls failed, at most 0 may"
    [restart]="calls failed, at most 0 may"
    [credentials]="notice answers the old credential with 200"
    [edges]="reaches '"
    [engines]="a service was restarted"
    [drain]="the drain evicted both replicas"
    [autoscale]="feed has two replicas: not within"
    [pods]="deployment/config is not ready within"
    [bad-image]="a roll-out of a missing image succeeded"
    [sick]="feed is restarted: not within"
    [blue-green]="blue is not ready; traffic was not moved"
    [runbook]='pods "nobody" not found'
)

# Seconds that a check with its fault waits for what does not come. A pod that hangs is replaced within 90 s.
declare -A IN_VAIN=([autoscale]=90 [pods]=30 [sick]=120)

# The namespace admits everything.
break_refused() { kubectl label --overwrite namespace sosohappy-dev pod-security.kubernetes.io/enforce=privileged >/dev/null; }

# The only feed is gone, without a successor.
break_traffic() { kube delete pod --selector app.kubernetes.io/name=feed --grace-period 0 --force >/dev/null 2>&1; }

# The old pod of feed goes at once, before the new one is ready: without a surge, and without the pause in which it still serves.
break_restart() {
    kube patch deployment feed --type json --patch '[
        { "op": "replace", "path": "/spec/strategy/rollingUpdate", "value": { "maxSurge": 0, "maxUnavailable": 1 } },
        { "op": "replace", "path": "/spec/template/spec/terminationGracePeriodSeconds", "value": 1 },
        { "op": "remove", "path": "/spec/template/spec/containers/0/lifecycle" }]' >/dev/null
    one_each
}

# notice is forgotten.
break_credentials() { FOLLOWERS=(feed dm); }

# A policy that allows everything.
break_edges() {
    kube apply --filename - >/dev/null <<'YAML'
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: open }
spec: { podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{}], egress: [{}] }
YAML
}

# A service is restarted meanwhile.
break_engines() { kube delete pod --selector app.kubernetes.io/name=auth --wait=false >/dev/null; }

# The budget lets both go.
break_drain() { kube patch poddisruptionbudget dm --type merge --patch '{"spec":{"maxUnavailable":2}}' >/dev/null; }

# The autoscaler may not add a replica.
break_autoscale() { kube patch horizontalpodautoscaler feed --patch '{"spec":{"maxReplicas":1}}' >/dev/null; }

# The node takes no successors.
break_pods() { kubectl cordon node-1 >/dev/null; }

# The image is there.
break_bad_image() { cp "$REFERENCES" "$WORK/bad"; }

# Nothing looks whether feed lives.
break_sick() {
    kube patch deployment feed --type json --patch '[{"op":"remove","path":"/spec/template/spec/containers/0/livenessProbe"}]' >/dev/null
    one_each
}

# A service of the new colour is missing.
break_blue_green() { kube delete deployment feed-blue >/dev/null; }

# The runbook names a pod that does not exist.
break_runbook() {
    RUNBOOK=$WORK/runbook.md
    { cat docs/runbook.md && printf '\140kubectl describe pod nobody\140\n'; } >"$RUNBOOK"
}
