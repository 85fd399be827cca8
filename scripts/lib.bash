# The module that the shell scripts of scripts/ share. Sourced, not run.
# Prints the script's first comment for --help, and leaves the shell in the project's root;
# $caller is the folder before.
# shellcheck shell=bash
set -euo pipefail

case ${1:-} in -h | --help)
    sed -n '2,${/^#/!q;/^# shellcheck/d;s/^# \{0,1\}//p;}' "$0"
    exit
    ;;
esac
# shellcheck disable=SC2034 # used by the scripts
caller=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."

die() {
    printf '%s\n' "$*" >&2
    exit 1
}

# The path of a pinned tool. A missing tool is a failure, never a pass.
tool() {
    [[ -x .tools/bin/$1 ]] || die "$1 is missing from .tools/bin: run \`make tools\`"
    printf '%s/.tools/bin/%s' "$PWD" "$1"
}

# Brings pinned packages of npm into .tools/NAME, and prints that folder.
npm_tools() { # name, package@version...
    local folder=$PWD/.tools/$1
    shift
    command -v npm >/dev/null || die "npm is missing: install Node.js 20.11 or newer"
    if [[ $(cat "$folder/pins" 2>/dev/null) != "$*" ]]; then
        mkdir -p "$folder"
        echo '{"private": true, "type": "module"}' >"$folder/package.json"
        npm install --prefix "$folder" --no-audit --no-fund --loglevel error --ignore-scripts "$@" >/dev/null ||
            die "npm could not install $*"
        echo "$*" >"$folder/pins"
    fi
    printf '%s' "$folder"
}

# Makes a temporary folder in $work. When the shell exits, all that `start` started is ended
# and the folder is removed.
make_work() {
    work=$(mktemp -d "${TMPDIR:-/tmp}/verify.XXXXXX")
    started=()
    trap cleanup EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
}

cleanup() {
    local status=$? pid
    trap - EXIT INT TERM HUP
    # Last started, first ended: a sender ends before its receiver.
    for ((i = ${#started[@]} - 1; i >= 0; i--)); do
        pid=${started[i]}
        # A process that ignores TERM must not outlive the check.
        kill -TERM "$pid" 2>/dev/null && timeout 15 tail --pid="$pid" -f /dev/null ||
            kill -KILL "$pid" 2>/dev/null || true
    done
    rm -rf "$work"
    exit "$status"
}

# Free loopback ports, all different, one a line.
free_ports() {
    python3 -c '
import socket, sys
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*(s.getsockname()[1] for s in sockets), sep="\n")' "$1"
}

# Starts a process in the background; its output goes to $work/NAME.log.
start() { # name, command...
    local name=$1
    shift
    "$@" >"$work/$name.log" 2>&1 &
    started+=($!)
}

# Waits until a command succeeds.
await() { # seconds, description, command...
    local deadline=$((SECONDS + $1)) what=$2 log
    shift 2
    until "$@" >/dev/null 2>&1; do
        if ((SECONDS >= deadline)); then
            for log in "$work"/*.log; do
                [[ -s $log ]] && { echo "--- ${log##*/}"; tail -n 15 "$log"; } >&2
            done
            die "not within the time allowed: $what"
        fi
        sleep 0.1
    done
}

answers() { curl -fsS -o "$work/answer" --max-time 5 "$@"; }
