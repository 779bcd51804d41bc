# Starts, finds and stops the processes of the engines, by pid. Sourced, not run.
# shellcheck shell=bash

# Prints a port below the range of outgoing connections, so that no other process takes an engine's port while it is stopped, and
# not a port that another engine has stored.
free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 12000))
        listening "$port" || grep -qsx "$port" "$ENGINES_DIR"/*/*port || break
    done
    say "$port"
}

listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# launched FOLDER COMMAND…: starts a server that outlives this script, in a process group of its own, and stores its pid.
launched() {
    local folder=$1
    shift
    (
        set -m
        cd "$folder" || exit
        nohup "$@" >>"$folder/log" 2>&1 </dev/null 9>&- &
        printf '%s\n' "$!" >"$folder/pid"
    )
}

# running FOLDER: prints the pid of the server that was launched there, unless another process has that pid now.
running() {
    local folder=$1 pid command
    [ -s "$folder/pid" ] || return 1
    pid=$(cat "$folder/pid")
    if [ -r "/proc/$pid/cmdline" ]; then
        command=$(tr '\0' ' ' <"/proc/$pid/cmdline")
    else
        command=$(ps -o command= -p "$pid" 2>/dev/null) || return 1
    fi
    case $command in
    *"$folder/data"*) say "$pid" ;;
    *) return 1 ;;
    esac
}

# ended FOLDER SIGNAL SECONDS: sends the signal and waits until the server has ended.
ended() {
    local folder=$1 signal=$2 deadline=$((SECONDS + $3)) pid
    pid=$(running "$folder") || return 0
    kill -s "$signal" "$pid" 2>/dev/null || true
    while running "$folder" >/dev/null; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.1
    done
    rm -f "$folder/pid"
}
