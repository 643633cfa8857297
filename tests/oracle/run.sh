#!/usr/bin/env bash
# `make oracle`: installs real PyTorch and torchvision (5 GB, once, into the cache folder), makes the fixtures of
# tests/fixtures again and compares, then runs the checks of the program itself.
#
# tests/oracle/AREA.py with a main(out_dir)  writes what tests/fixtures/AREA should hold
# tests/oracle/check_*.py TL                 compares the program at TL with PyTorch; a non-zero exit is a failure
#
# run.sh [NAME...]   only these scripts (`run.sh pixels check_logits`)
# run.sh --install   only install; `make bench` needs the same
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

SCRIPT_NAME=oracle
# shellcheck source=scripts/common.sh
source scripts/common.sh

TL=${TL:-target/release/tl}
REQUIREMENTS=tests/oracle/requirements.txt

# A virtual environment with the requirements. The copy of their list is written last and says that the rest is whole:
# an environment cannot be renamed into place.
oracle_is_whole() { cmp -s "$REQUIREMENTS" "$ORACLE/requirements.txt"; }

install_oracle() {
    local problem stage
    take_lock
    ! oracle_is_whole || return 0
    problem=$(pip_problem)
    [[ -z $problem ]] || die "cannot install the oracle, as $problem; install it"
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        die "the oracle needs Python 3.11 or newer, and python3 is $(python3 --version)"
    need_space "$CACHE" 9000 "installing the oracle" "set XDG_CACHE_HOME to a folder on a larger disk"
    say "installing PyTorch, torchvision and timm into $ORACLE (downloads about 3 GB, once)"
    rm -rf "$ORACLE"
    stage=$ORACLE/.pip
    python3 -m venv "$ORACLE" >/dev/null ||
        die "python3 cannot make a virtual environment: \`sudo apt-get install python3-venv\`"
    mkdir "$stage"
    run_pip "$stage" "$ORACLE/bin/python" install --no-cache-dir --no-compile -r "$REQUIREMENTS" ||
        die "cannot install the oracle: $(pip_reason "$stage")"
    rm -rf "$stage"
    cp "$REQUIREMENTS" "$ORACLE/requirements.txt"
}

make_cache_folder
ORACLE=$CACHE/oracle
oracle_is_whole || install_oracle
[[ ${1:-} != --install ]] || exit 0

# chosen NAME SELECTION...: whether NAME is to run.
chosen() {
    local name=$1 selected
    shift
    (($# > 0)) || return 0
    for selected; do
        [[ $selected != "$name" ]] || return 0
    done
    return 1
}

export PYTHONDONTWRITEBYTECODE=1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failed=() passed=0
for script in tests/oracle/*.py; do
    name=$(basename "$script" .py)
    chosen "$name" "$@" || continue
    if [[ $name == check_* ]]; then
        say "checking $name"
        command=("$ORACLE/bin/python" "$script" "$TL")
    elif grep -q '^def main(out_dir' "$script"; then
        say "making the fixtures of $name again"
        if ! "$ORACLE/bin/python" "$script" "$scratch/$name"; then
            failed+=("$name")
            continue
        fi
        command=("$ORACLE/bin/python" tests/oracle/compare.py "$scratch/$name" "tests/fixtures/$name")
    else
        continue
    fi
    if "${command[@]}"; then
        passed=$((passed + 1))
    else
        failed+=("$name")
    fi
done

((passed + ${#failed[@]} > 0)) || die "no script of tests/oracle is called $*"
if ((${#failed[@]})); then
    die "$passed scripts agree, ${#failed[@]} do not: ${failed[*]}"
fi
say "all $passed scripts agree"
