#!/usr/bin/env bash
# `make experiment`: which method wins where, and how often `auto` is right. At most an hour on 4 cores; an experiment
# that was interrupted goes on where it was.
#
# experiment.sh [--quick] [OPTIONS OF run.py]
#
# --quick   a few minutes: one seed of three tasks with the shipped network
#
# Needs a Python with numpy, Pillow and the fonts that `make letters` installs; `make oracle` makes one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

PYTHON=${PYTHON:-python3}
export TL=${TL:-target/release/tl}
BUILD=build/experiment

"$PYTHON" -c 'import numpy, PIL' 2>/dev/null || {
    echo "experiment: $PYTHON lacks numpy or Pillow: \`make oracle\` installs a Python that has them" >&2
    exit 1
}

sources=()
[[ " $* " != *" --quick "* ]] || sources=(--sources letters)

[[ -f $BUILD/manifest.json ]] || "$PYTHON" scripts/experiment/datasets.py
if ((${#sources[@]} == 0)) && [[ ! -f $BUILD/sources/textures/report.json ]]; then
    "$TL" finetune scripts/experiment/pretrain-textures.yaml --out $BUILD/sources/textures --overwrite
fi
"$PYTHON" scripts/experiment/run.py "${sources[@]}" "$@"
"$PYTHON" scripts/experiment/table.py
