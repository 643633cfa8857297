# shellcheck shell=bash disable=SC2034
# What the scripts share: messages, the cache folder, Python and pip. Sourced, not run.

TORCH_VERSION=2.11.0
TORCH_SERIES=2.11

say() { printf '%s: %s\n' "${SCRIPT_NAME:-tl}" "$*" >&2; }

die() {
    say "$*"
    exit 1
}

# Sets CACHE to the project's own cache folder and makes it.
make_cache_folder() {
    # The XDG specification has a relative path ignored.
    if [[ ${XDG_CACHE_HOME:-} == /* ]]; then
        CACHE=$XDG_CACHE_HOME/tl
    elif [[ -n ${HOME:-} ]]; then
        CACHE=$HOME/.cache/tl
    else
        die "neither HOME nor XDG_CACHE_HOME is set: set XDG_CACHE_HOME to a folder that may hold 3 GB"
    fi
    if ! mkdir -p "$CACHE" 2>/dev/null || [[ ! -w $CACHE ]]; then
        die "cannot write to $CACHE: set XDG_CACHE_HOME to a folder that you may write to"
    fi
}

# Waits until no other script of ours installs into CACHE, and keeps others waiting until this one ends. Sets LOCKED.
take_lock() {
    exec 9>"$CACHE/.lock"
    # A system or a file system without locks is no reason to stop: what is installed is renamed into place.
    LOCKED=''
    command -v flock >/dev/null || return 0
    if ! flock -n 9; then
        say "waiting for another installation into $CACHE to end"
        flock 9 || return 0
    fi
    LOCKED=yes
}

# need_space FOLDER MEGABYTES PURPOSE REMEDY: stops unless FOLDER's file system has that much room.
need_space() {
    local free
    free=$(df -Pm "$1" | awk 'NR == 2 { print $4 }')
    if [[ $free =~ ^[0-9]+$ ]] && ((free < $2)); then
        die "$3 needs $2 MB in $1, where $free MB are free: make room, or $4"
    fi
}

# What stands in the way of `python3 -m pip`, in words; nothing if it works.
pip_problem() {
    if ! python3 -c '' 2>/dev/null; then
        printf 'there is no python3 (sudo apt-get install python3-pip)'
    elif ! python3 -m pip --version >/dev/null 2>&1; then
        printf 'python3 has no pip (sudo apt-get install python3-pip)'
    fi
}

# run_pip SCRATCH PYTHON ARGUMENT...: pip with what it needs to behave the same everywhere. Its standard error goes
# to SCRATCH/pip.log. No cache: pip would hold half a gigabyte in memory to write it. Temporary files next to the
# destination: /tmp may be small, or memory.
run_pip() {
    local scratch=$1 python=$2
    shift 2
    TMPDIR=$scratch PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore \
        "$python" -m pip "$@" </dev/null >&2 2>"$scratch/pip.log"
}

# pip_reason SCRATCH: why the last run_pip failed, with what to do, in one line.
pip_reason() {
    local log=$1/pip.log last
    last=$(grep -E '^ *ERROR: ' "$log" | tail -n 1 || true)
    [[ -n $last ]] || last=$(grep -v '^ *$' "$log" | tail -n 1 || true)
    if grep -qi 'no space left' "$log"; then
        printf 'the disk is full: make room, or set XDG_CACHE_HOME to a folder on a larger disk'
    elif grep -qi 'do not match the hashes' "$log"; then
        printf 'pip was served another file than the one that was published: look at pip config (index-url, extra-index-url)'
    elif grep -qiE 'connection broken|NewConnectionError|name resolution|ConnectTimeout|Read timed out|ProxyError|SSLError|Network is unreachable' "$log"; then
        printf 'pip cannot reach its package index: check the network (or pip config: index-url, proxy) and run it again'
    else
        printf 'pip says: %s' "${last#*ERROR: }"
    fi
}
