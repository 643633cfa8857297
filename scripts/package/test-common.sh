# shellcheck shell=bash
# What the tests of the wheel and of the folder share. Sourced, not run.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
SCRATCH=$(mktemp -d)
trap 'rm -rf "$SCRATCH"' EXIT

ok() { printf 'ok  %s\n' "$*"; }

fail() {
    printf 'FAILED  %s\n' "$*" >&2
    exit 1
}

# the_newest PATTERN MAKE: the newest file of that name in dist/.
the_newest() {
    local newest
    # shellcheck disable=SC2012,SC2086
    newest=$(ls -t "$ROOT"/dist/$1 2>/dev/null | head -n 1)
    [[ -n $newest ]] || fail "there is no dist/$1: \`make $2\`"
    printf '%s' "$newest"
}

# expect EXPECTED TEXT: TEXT, whole.
expect() {
    [[ $2 == "$1" ]] || fail "$(printf 'expected\n%s\nand found\n%s' "$1" "$2")"
}

# contains PART TEXT
contains() {
    [[ $2 == *"$1"* ]] || fail "$(printf 'expected "%s" in\n%s' "$1" "$2")"
}

# A recipe that trains for a second, and uses what is shipped in DIR.
recipe() {
    cat <<END
model: shufflenet_v2_x0_5
weights: $1/data/shufflenet_v2_x0_5-letters.safetensors
data: { train: $1/data/digits/test, val: 0.2 }
strategy: { method: linear }
END
}

# The libtorch that the set-up recorded.
recorded_libtorch() { sed -n 's/^LIBTORCH = "\(.*\)"$/\1/p' "$ROOT/.cargo/config.toml"; }
