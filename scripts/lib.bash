# The module that the shell scripts of scripts/ and tests/system/ share. Sourced, not run.
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

# ---- throwaway servers, for scripts/postgres and scripts/redis -------------
# Has `work` (a folder), `start_server` and `stop_server`, which its caller defines.

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

alive() { if [ -e /proc/self ]; then [ -e "/proc/$1" ]; else ps -p "$1" >/dev/null; fi; }

# A port below the range from which systems hand out ports of their own accord.
server_port() { echo $((15000 + RANDOM % 15000)); }

# The command that installs a server: advice DEBIAN FEDORA ARCH ALPINE SUSE HOMEBREW.
advice() {
    if command -v apt-get; then echo "sudo apt-get install -y $1"
    elif command -v dnf; then echo "sudo dnf install -y $2"
    elif command -v pacman; then echo "sudo pacman -S --noconfirm $3"
    elif command -v apk; then echo "sudo apk add $4"
    elif command -v zypper; then echo "sudo zypper install -y $5"
    else echo "brew install $6"; fi | tail -n 1
}

# Watches over CMD in a process group of its own, with or without the script: when the
# script was killed, CMD must not go on alone. When the script's parent has died, CMD ends.
keep() { # SCRIPT PARENT
    trap '' INT TERM HUP
    while alive "$1"; do
        alive "$2" || kill -TERM "$1" 2>/dev/null || true
        ! declare -F tend_server >/dev/null || tend_server
        sleep 1
    done
    kill -KILL -- "-$(cat "$work/group")" 2>/dev/null || true
    stop_server
    rm -rf "$work"
}

# Hands a signal on to CMD and all that it runs. The rest is killed 10 s later, or at the
# second signal.
pass_on() { # SIGNAL
    [ -z "$caught" ] || kill -KILL -- "-$group" 2>/dev/null || true
    caught=$1
    [ -n "$group" ] || exit 143
    kill "-$1" -- "-$group" 2>/dev/null || true
    set -m
    (sleep 10 && kill -KILL -- "-$group") >/dev/null 2>&1 &
    escalation=$!
    disown "$escalation"
    set +m
}

# Runs CMD without stdin in a process group of its own, which INT, TERM and HUP reach. The
# server and its folder are gone when it ends.
under_server() { # CMD...
    local parent=$PPID status signal keeper
    # nohup says that the run is to outlive its parent.
    [ "$(trap -p HUP)" != "trap -- '' SIGHUP" ] || parent=$$
    group='' caught='' escalation=''
    trap 'trap "" INT TERM HUP
        kill -KILL -- ${keeper:+"-$keeper"} ${escalation:+"-$escalation"} 2>/dev/null || true
        stop_server; rm -rf "$work"' EXIT
    for signal in INT TERM HUP; do
        # shellcheck disable=SC2064 # the signal of now
        trap "pass_on $signal" "$signal"
    done
    start_server
    set -m
    keep "$$" "$parent" >/dev/null 2>&1 </dev/null &
    keeper=$!
    disown "$keeper"
    (cd "$caller" && trap - INT TERM HUP && exec "$@") </dev/null &
    group=$!
    set +m
    echo "$group" >"$work/group"
    while :; do
        status=0
        wait "$group" || status=$?
        kill -0 "$group" 2>/dev/null || break # not ended: a trap woke us
    done
    case $caught in INT) status=130 ;; HUP) status=129 ;; TERM) status=143 ;; esac
    # Background processes that CMD has left behind ignore INT.
    [ -z "$caught" ] || { kill -TERM -- "-$group" && sleep 2 && kill -KILL -- "-$group"; } 2>/dev/null || true
    exit "$status"
}
