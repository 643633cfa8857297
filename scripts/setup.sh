#!/usr/bin/env bash
# Finds libtorch, or installs it, and records it in .cargo/config.toml, so that plain `cargo build`, `cargo test` and
# `cargo install --path .` work without an environment variable. Done once; a later run only checks. Where it looks:
#
#   1. LIBTORCH, a folder with lib/ and include/ (the official archive, unpacked)
#   2. what an earlier run recorded
#   3. a PyTorch of python3
#   4. the project's own copy in the user's cache folder, installed with pip if there is none
#
# LIBTORCH=DIR     use this one
# TL_CUDA=0|1      install libtorch without (0.6 GB) or with (5 GB) CUDA; else: with, if there is an NVIDIA driver
# TL_NASM=0        do not install NASM with apt-get
set -euo pipefail

SCRIPT_NAME=set-up
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/common.sh
source "$ROOT/scripts/common.sh"

CONFIG=$ROOT/.cargo/config.toml
CONFIG_HEAD="# Written by scripts/setup.sh (make setup). Delete it to have libtorch looked for anew."
ARCHIVE="https://download.pytorch.org/libtorch/cpu/libtorch-shared-with-deps-$TORCH_VERSION%2Bcpu.zip"
BY_HAND="unpack $ARCHIVE and run \`make setup LIBTORCH=/path/to/libtorch\`"

# --- Judging a libtorch ---------------------------------------------------------------------------------------------

# libtorch_version DIR: from the official archive's file, the Python package's, or the headers.
libtorch_version() {
    local header
    if [[ -f $1/build-version ]]; then
        tr -d '[:space:]' <"$1/build-version"
    elif [[ -f $1/version.py ]]; then
        sed -n "s/^__version__ = ['\"]\([^'\"]*\)['\"].*/\1/p" "$1/version.py"
    else
        for header in "$1"/include/torch/headeronly/version.h "$1"/include/torch/csrc/api/include/torch/version.h; do
            [[ -f $header ]] || continue
            awk '$1 == "#define" && $2 ~ /^TORCH_VERSION_(MAJOR|MINOR|PATCH)$/ { v = v sep $3; sep = "." } END { print v }' "$header"
            return
        done
    fi
}

# libtorch_problem DIR: why DIR will not do, in words; nothing if it will. Reads names and one small file only.
libtorch_problem() {
    local version
    if [[ ! -d $1 ]]; then
        printf 'there is no such folder'
    elif [[ ! -f $1/lib/libtorch_cpu.so ]]; then
        printf 'it has no lib/libtorch_cpu.so'
    elif [[ ! -f $1/include/torch/csrc/api/include/torch/torch.h ]]; then
        printf 'it has no C++ headers (include/torch/csrc/api/include/torch/torch.h)'
    else
        version=$(libtorch_version "$1")
        if [[ ! $version =~ ^${TORCH_SERIES//./\\.}\.[0-9]+(\+.*)?$ ]]; then
            printf 'its version is %s, and tl needs %s' "${version:-unknown}" "$TORCH_SERIES"
        fi
    fi
}

# libtorch_gaps DIR: the shared libraries that libtorch asks for and the system does not find.
libtorch_gaps() { library_gaps "$1/lib/libtorch_cpu.so"; }

library_gaps() {
    command -v ldd >/dev/null || return 0
    # Without LD_LIBRARY_PATH, as the finished program runs.
    env -u LD_LIBRARY_PATH ldd "$1" 2>&1 | awk '/not found/ { printf "%s%s", sep, $1; sep = ", " }'
}

# cuda_problem DIR: why the libtorch in DIR will not do where CUDA is asked for (TL_CUDA=1).
cuda_problem() {
    local gaps
    [[ ${TL_CUDA:-} == 1 ]] || return 0
    if [[ ! -f $1/lib/libtorch_cuda.so ]]; then
        printf 'it is the one for the CPU alone'
    elif gaps=$(library_gaps "$1/lib/libtorch_cuda.so") && [[ -n $gaps ]]; then
        printf 'its CUDA half needs libraries that are not there (%s)' "$gaps"
    fi
}

# --- The ways to one; each sets LIBTORCH_DIR and HOW, or leaves them ------------------------------------------------

from_environment() {
    local problem gaps
    [[ -n ${LIBTORCH:-} ]] || return 0
    LIBTORCH_DIR=$(absolute "$LIBTORCH")
    problem=$(libtorch_problem "$LIBTORCH_DIR")
    if [[ -n $problem ]]; then
        die "LIBTORCH=$LIBTORCH will not do: $problem; point it at a libtorch $TORCH_VERSION (the folder with lib/ and include/), or unset it"
    fi
    gaps=$(libtorch_gaps "$LIBTORCH_DIR")
    if [[ -n $gaps ]]; then
        die "LIBTORCH=$LIBTORCH will not do: it needs libraries that are not there ($gaps); install them, or unset LIBTORCH"
    fi
    problem=$(cuda_problem "$LIBTORCH_DIR")
    [[ -z $problem ]] || die "LIBTORCH=$LIBTORCH will not do with TL_CUDA=1: $problem; unset one of them"
    HOW="from LIBTORCH"
}

from_python() {
    local folder problem gaps
    command -v python3 >/dev/null || return 0
    # Looks the package up without importing it, which would take seconds; '' is the current folder.
    folder=$(python3 - <<'PYTHON' 2>/dev/null || true
import importlib.util, os, sys
sys.path = [folder for folder in sys.path if folder != ""]
spec = importlib.util.find_spec("torch")
if spec and spec.origin:
    print(os.path.dirname(os.path.abspath(spec.origin)))
PYTHON
    )
    [[ -n $folder ]] || return 0
    problem=$(libtorch_problem "$folder")
    if [[ -z $problem ]]; then
        gaps=$(libtorch_gaps "$folder")
        [[ -z $gaps ]] || problem="it needs libraries that are not there ($gaps)"
    fi
    [[ -n $problem ]] || problem=$(cuda_problem "$folder")
    if [[ -n $problem ]]; then
        say "not using python3's PyTorch in $folder: $problem"
        return 0
    fi
    LIBTORCH_DIR=$folder
    HOW="of python3"
}

from_cache() {
    local variant=cpu name
    make_cache_folder
    if [[ ${TL_CUDA:-} == 1 ]] || { [[ ${TL_CUDA:-} != 0 ]] && has_cuda; }; then
        variant=cuda
    fi
    # Where the small one will do, an installed large one does too.
    for name in "$variant" cuda; do
        if [[ -z $(own_problem "$CACHE/libtorch-$TORCH_VERSION-$name") ]]; then
            LIBTORCH_DIR=$CACHE/libtorch-$TORCH_VERSION-$name/torch
            HOW="of an earlier set-up"
            return
        fi
    done
    install_own "$variant"
    LIBTORCH_DIR=$CACHE/libtorch-$TORCH_VERSION-$variant/torch
    HOW="just installed"
}

# Whether an NVIDIA driver answers. Python is there whenever the answer matters, and opens a library as tl will.
has_cuda() {
    python3 -c 'import ctypes, sys; sys.exit(ctypes.CDLL("libcuda.so.1").cuInit(0) != 0)' 2>/dev/null
}

own_problem() {
    local problem
    problem=$(libtorch_problem "$1/torch")
    [[ -n $problem ]] || problem=$(libtorch_gaps "$1/torch")
    printf '%s' "$problem"
}

# install_own cpu|cuda: PyTorch's own package, into the cache folder: in a folder of its own, checked, then renamed, so
# that what stands under the final name is whole.
install_own() {
    local variant=$1 target=$CACHE/libtorch-$TORCH_VERSION-$1 problem arguments
    problem=$(pip_problem)
    [[ -z $problem ]] || die "cannot install libtorch, as $problem; install it, or $BY_HAND"

    take_lock
    [[ -n $(own_problem "$target") ]] || return 0

    # With the sha256 of each file: pip refuses what is not the file that was published.
    arguments=(--requirement "$ROOT/scripts/libtorch/$variant.txt")
    if [[ $variant == cuda ]]; then
        need_space "$CACHE" 9000 "installing libtorch with CUDA" "set XDG_CACHE_HOME to a larger disk, or TL_CUDA=0"
        say "installing libtorch $TORCH_VERSION with CUDA into $target (downloads about 3 GB, once)"
    else
        need_space "$CACHE" 2500 "installing libtorch" "set XDG_CACHE_HOME to a folder on a larger disk"
        say "installing libtorch $TORCH_VERSION into $target (downloads about 530 MB, once)"
        arguments+=(--no-deps)
    fi

    # Nobody else is installing: what lies here was left by one that was killed.
    [[ -z $LOCKED ]] || rm -rf "$CACHE"/.installing.*
    STAGE=$(mktemp -d "$CACHE/.installing.XXXXXX")
    trap 'rm -rf "$STAGE"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    # The C++ libraries are the same for every Python: asking for one version serves all, also those without a package.
    if ! run_pip "$STAGE" python3 install --no-cache-dir --no-compile --target "$STAGE/libtorch" \
        --python-version 3.12 --implementation cp --only-binary=:all: "${arguments[@]}"; then
        die "cannot install libtorch: $(pip_reason "$STAGE"); or $BY_HAND"
    fi
    if [[ $variant == cpu ]]; then
        # Half of the package, and of no use without the libraries left out above.
        rm -f "$STAGE"/libtorch/torch/lib/libtorch_{cuda,cuda_linalg,nvshmem,python}.so
    fi
    problem=$(own_problem "$STAGE/libtorch")
    [[ -z $problem ]] || die "the libtorch that pip installed will not do: $problem; $BY_HAND"
    if [[ -n $(own_problem "$target") ]]; then
        rm -rf "$target"
        mv -T "$STAGE/libtorch" "$target" || die "cannot put libtorch into $target"
    fi
    rm -rf "$STAGE"
}

# --- The compilers --------------------------------------------------------------------------------------------------

# Rust, and a C++ compiler that can compile and link. `full` tries the compiler; else its presence is enough.
check_compilers() {
    local wanted found scratch problems=0
    wanted=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' "$ROOT/Cargo.toml")
    if ! command -v cargo >/dev/null || ! found=$(cd "$ROOT" && rustc --version 2>/dev/null); then
        say "there is no Rust: install it with \`curl https://sh.rustup.rs -sSf | sh\` (https://rustup.rs), then open a new shell"
        problems=1
    else
        found=$(awk '{ print $2 }' <<<"$found")
        if [[ $(printf '%s\n%s\n' "$wanted" "${found%%-*}" | sort -V | head -n 1) != "$wanted" ]]; then
            say "Rust $found is too old, $wanted or newer is needed: \`rustup update\` (or get rustup, https://rustup.rs)"
            problems=1
        fi
    fi
    if ! command -v "${CXX:-c++}" >/dev/null || ! command -v cc >/dev/null; then
        say "there is no C++ compiler (${CXX:-c++} and cc): \`sudo apt-get install g++\`"
        problems=1
    elif [[ $1 == full ]]; then
        scratch=$(mktemp -d)
        # What torch-sys will ask of it: C++17, the standard library, OpenMP.
        if ! printf '#include <string>\nint main() { return std::string().size(); }\n' |
            "${CXX:-c++}" -std=c++17 -x c++ - -o "$scratch/program" -lgomp 2>"$scratch/log"; then
            say "the C++ compiler ${CXX:-c++} does not work ($(grep -m 1 . "$scratch/log" || echo 'no message')): \`sudo apt-get install g++\`"
            problems=1
        fi
        rm -rf "$scratch"
    fi
    ((problems == 0)) || exit 1
}

# NASM makes JPEG decoding twice as fast on x86. Installed only where that asks no question, and never needed.
offer_nasm() {
    local installer=() packages step
    [[ $(uname -m) == x86_64 ]] && ! command -v nasm >/dev/null || return 0
    if [[ ${TL_NASM:-} != 0 ]] && command -v apt-get >/dev/null; then
        if [[ $(id -u) == 0 ]]; then
            installer=(env)
        elif command -v sudo >/dev/null && sudo -n true 2>/dev/null </dev/null; then
            installer=(sudo -n env)
        fi
    fi
    if ((${#installer[@]})); then
        say "installing NASM with apt-get, for faster JPEG decoding"
        installer+=(DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=30 -o Acquire::Retries=1)
        # A fresh container has no package lists yet: fetch them if the first try fails.
        for step in install update install; do
            [[ $step == update ]] && packages=() || packages=(-y --no-install-recommends nasm)
            "${installer[@]}" "$step" "${packages[@]}" </dev/null >/dev/null 2>&1 || true
            ! command -v nasm >/dev/null || return 0
        done
    fi
    say "going on without NASM: JPEG decoding takes twice as long (later: \`sudo apt-get install nasm && cargo clean --release -p mozjpeg-sys\`)"
}

# --- The record -----------------------------------------------------------------------------------------------------

absolute() {
    local folder
    folder=$(cd "$1" 2>/dev/null && pwd) || folder=$1
    printf '%s' "$folder"
}

# The libtorch of .cargo/config.toml, if this script wrote that file.
recorded() {
    [[ -f $CONFIG && $(head -n 1 "$CONFIG") == "$CONFIG_HEAD" ]] || return 0
    sed -n 's/^# libtorch: //p' "$CONFIG"
}

# A string as TOML writes it.
quoted() {
    local text=${1//\\/\\\\}
    printf '"%s"' "${text//\"/\\\"}"
}

config_text() {
    local version
    version=$(libtorch_version "$LIBTORCH_DIR")
    printf '%s\n# libtorch: %s\n[env]\nLIBTORCH = %s\n' "$CONFIG_HEAD" "$LIBTORCH_DIR" "$(quoted "$LIBTORCH_DIR")"
    # For the tests, several of which run at once: waiting threads that spin would starve the others (src/device/mod.rs).
    printf 'GOMP_SPINCOUNT = "1000"\n'
    # torch-sys takes one patch release only, where it looks; this script has checked the version.
    if [[ ${version%%+*} != "$TORCH_VERSION" ]]; then
        printf 'LIBTORCH_BYPASS_VERSION_CHECK = "1"\n'
    fi
}

record() {
    local text
    text=$(config_text)
    if [[ -f $CONFIG && $(<"$CONFIG") == "$text" ]]; then
        return 0
    fi
    if [[ -s $CONFIG && $(head -n 1 "$CONFIG") != "$CONFIG_HEAD" ]]; then
        # Somebody's own settings: good if they name this libtorch, else theirs to change.
        if grep -qF "$(quoted "$LIBTORCH_DIR")" "$CONFIG"; then
            return 0
        fi
        die "$CONFIG holds settings of your own: add LIBTORCH = $(quoted "$LIBTORCH_DIR") to its [env] section"
    fi
    if ! { mkdir -p "$ROOT/.cargo" && printf '%s\n' "$text" >"$CONFIG.$$" && mv "$CONFIG.$$" "$CONFIG"; } 2>/dev/null; then
        rm -f "$CONFIG.$$"
        die "cannot write $CONFIG: make the checkout writable"
    fi
}

# Before the first build of a checkout.
say_how_long() {
    [[ -d ${CARGO_TARGET_DIR:-$ROOT/target}/release ]] ||
        say "the first build takes about eight minutes of processor time, on two cores half as long: 200 Rust crates, and C++ that reads PyTorch's headers; later ones take seconds"
}

# Whether what an earlier run recorded holds still.
settled() {
    local known
    known=$(recorded)
    [[ -n $known && -z $(libtorch_problem "$known") ]] || return 1
    [[ -z ${LIBTORCH:-} || $(absolute "$LIBTORCH") == "$known" ]] || return 1
    [[ -z $(cuda_problem "$known") ]]
}

main() {
    local target=${CARGO_TARGET_DIR:-$ROOT/target}
    [[ $(uname -s) == Linux ]] || die "this set-up knows Linux only"
    if settled; then
        check_compilers quick
        say_how_long
        return
    fi

    check_compilers full
    [[ -d $target ]] || need_space "$ROOT" 2000 "building tl" "set CARGO_TARGET_DIR to a folder on a larger disk"
    LIBTORCH_DIR='' HOW=''
    from_environment
    [[ -n $LIBTORCH_DIR ]] || from_python
    [[ -n $LIBTORCH_DIR ]] || from_cache
    offer_nasm
    record
    say "libtorch $(libtorch_version "$LIBTORCH_DIR") $HOW: $LIBTORCH_DIR"
    say_how_long
}

main
