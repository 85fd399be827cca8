# For the checks in scripts/verify.d and for scripts/stack: sourced, not run.
# Leaves the shell in the project's root with a temporary folder in $work; all
# that `start` started is ended, and the folder removed, when the shell exits.
# shellcheck shell=bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

work=$(mktemp -d "${TMPDIR:-/tmp}/verify.XXXXXX")
started=()

cleanup() {
    local status=$? pid
    trap - EXIT INT TERM HUP
    # Last started, first ended: what feeds ends before what it feeds.
    for ((i = ${#started[@]} - 1; i >= 0; i--)); do
        pid=${started[i]}
        if kill -TERM "$pid" 2>/dev/null; then
            # A process that ignores TERM must not outlive the check.
            (
                deadline=$((SECONDS + 15))
                while kill -0 "$pid" 2>/dev/null; do
                    ((SECONDS < deadline)) || kill -KILL "$pid" 2>/dev/null || true
                    sleep 0.1
                done
            ) &
            wait "$pid" 2>/dev/null || true
            wait $! 2>/dev/null || true
        fi
    done
    rm -rf "$work"
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

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
        echo '{"private": true}' >"$folder/package.json"
        npm install --prefix "$folder" --no-audit --no-fund --loglevel error --ignore-scripts "$@" >/dev/null ||
            die "npm could not install $*"
        echo "$*" >"$folder/pins"
    fi
    printf '%s' "$folder"
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

# Waits until a command succeeds. The bound is for a broken machine: what it
# waits for says so itself the moment it is true.
await() { # seconds, what, command...
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
