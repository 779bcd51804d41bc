# Checks of a fleet that runs, each under the load of people who post, like and write to each other, and each with a fault that it must find. Sourced
# before the checks, which are functions check_NAME, and their faults, break_NAME. What sources it declares CHECKS, SAYS, IN_VAIN, PATIENCE and
# PROGRAMS_LINK, and has the functions addresses, in_background, evidence and restored, and write_figures if there is a page for what was seen.
# shellcheck shell=bash

# The check whose fault is applied while it runs, so that it must fail; empty otherwise.
BROKEN=''

# seen TEXT: prints a figure, and keeps it for the table.
seen() {
    say "$*"
    printf '%s\n' "$*" >>"$WORK/seen"
}

# faulty NAME: applies the fault of the check that is run with one: see faults.sh.
faulty() { [ "$BROKEN" != "$1" ] || "break_${1//-/_}"; }

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
    local calls failed status=0 deadline=$((SECONDS + PATIENCE))
    kill -INT "$PEOPLE"
    while kill -0 "$PEOPLE" 2>/dev/null; do
        [ "$SECONDS" -lt "$deadline" ] || fail "the people have not ended within $PATIENCE s: $(tail -n 3 "$WORK/people")"
        sleep 0.2
    done
    wait "$PEOPLE" || status=$?
    grep -A4 ' calls, ' "$WORK/people" || tail -n 20 "$WORK/people"
    [ "$status" -eq 0 ] || fail "something that was acknowledged is missing or doubled"
    read -r calls failed < <(sed -n 's/^ *\([0-9]*\) calls, \([0-9]*\) failed and were repeated.*/\1 \2/p' "$WORK/people")
    printf '%s calls, %s failed\n' "$calls" "$failed" >>"$WORK/seen"
    [ -z "${1:-}" ] || [ "$failed" -le "$1" ] || fail "$failed calls failed, at most $1 may"
}

# born PID: when the process was started, in ticks of the machine: another process may have the same pid later.
born() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20; }

# begun PID: notes a process that ends with the check.
begun() { printf '%s %s\n' "$1" "$(born "$1")" >>"$WORK/begun"; }

# Ends what the check has left. Not by a trap of the check's own shell, where bash complains about processes of earlier checks.
end_begun() {
    local pid ticks
    [ -e "${WORK:-}/begun" ] || return 0
    while read -r pid ticks; do
        [ -z "$ticks" ] || [ "$(born "$pid")" != "$ticks" ] || kill "$pid" 2>/dev/null || true
    done <"$WORK/begun"
    rm "$WORK/begun"
}

# alone COMMAND…: runs a function in a shell of its own, and ends what it has started. Its status is in STATUS: in a condition `set -e` would have no
# effect in the function.
alone() {
    set +e
    (
        set -e
        "$@"
    ) 2>&1 | tee -a "$WORK/output"
    STATUS=${PIPESTATUS[0]}
    set -e
    end_begun
}

# check [--broken] [--write] [NAME…]
check() {
    local name began write='' broken='' failed=0 table
    while [[ ${1:-} == --* ]]; do
        case $1 in
        --write)
            [ "$(type -t write_figures)" = function ] || fail "these checks have no page of figures"
            write=yes
            ;;
        --broken) broken=yes ;;
        *) fail "unknown option '$1'" ;;
        esac
        shift
    done
    for name in "$@"; do
        [[ " ${CHECKS[*]} " == *" $name "* ]] || fail "no check is called '$name': ${CHECKS[*]}"
    done
    [ $# -gt 0 ] || set -- "${CHECKS[@]}"
    table=$(mktemp -d)
    # shellcheck disable=SC2064 # expanded now
    trap "end_begun; rm -rf '$table'" EXIT
    trap 'exit 130' INT TERM
    for name in "$@"; do
        say "== $name"
        began=$SECONDS WORK=$table/$name
        mkdir -p "$WORK"
        : >"$WORK/seen"
        if [ -n "$broken" ]; then
            with_fault "$name"
        else
            alone "check_${name//-/_}"
        fi
        if [ "$STATUS" -eq 0 ]; then
            say "== passed, $((SECONDS - began)) s"
        else
            say "== failed, $((SECONDS - began)) s"
            failed=$((failed + 1))
            evidence "$name"
        fi
        printf '%s\t%s\t%s\t%s\n' "$name" "$STATUS" "$((SECONDS - began))" "$(paste -sd '|' "$WORK/seen")" >>"$table/rows"
        if [ "$STATUS" -ne 0 ] || [ -n "$broken" ]; then
            alone restored "$name" >"$WORK/restored"
            [ "$STATUS" -eq 0 ] || fail "the fleet does not come back to the state before the check: $(tail -n 5 "$WORK/restored")"
        fi
    done
    [ -z "$write" ] || write_figures "$table/rows" ${broken:+--broken}
    say "$(($# - failed)) passed, $failed failed"
    [ "$failed" -eq 0 ]
}

# with_fault NAME: runs the check with its fault; STATUS is 0 if it has failed for that reason.
with_fault() {
    BROKEN=$1
    local PATIENCE=${IN_VAIN[$1]:-$PATIENCE}
    alone "check_${1//-/_}"
    BROKEN=''
    if [ "$STATUS" -eq 0 ]; then
        say "the check passed, with its fault"
        STATUS=1
    elif grep -qF "${SAYS[$1]}" "$WORK/output"; then
        printf 'fails with its fault: %s\n' "$(grep -F "${SAYS[$1]}" "$WORK/output" | head -n 1 | cut -c 1-160)" >>"$WORK/seen"
        STATUS=0
    else
        say "the check failed, and not by '${SAYS[$1]}'"
        STATUS=1
    fi
}
