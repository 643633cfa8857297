#!/usr/bin/env bash
# Compares what two builds of tl leave: scripts/same-models.sh BEFORE AFTER [RECIPE]...
# Each trains the shipped recipes of fixed methods; models, metrics' losses and plans must be the same bytes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[[ $# -ge 2 ]] || { echo "usage: $0 BEFORE AFTER [RECIPE]..." >&2; exit 2; }
before=$1 after=$2
shift 2
recipes=("$@")
[[ $# -gt 0 ]] || recipes=(recipes/digits-{linear,partial,full,scratch}.yaml recipes/reference.yaml)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0
for recipe in "${recipes[@]}"; do
    name=$(basename "$recipe" .yaml)
    # The same folder for both: its name is in the plan.
    for which in before after; do
        rm -rf "$work/run"
        "${!which}" finetune "$recipe" --out "$work/run" --threads 2 --device cpu --quiet \
            --set train.epochs=2 2>"$work/errors" >/dev/null || { cat "$work/errors" >&2; exit 1; }
        mv "$work/run" "$work/$name-$which"
    done
    for file in model.safetensors plan.yaml; do
        if cmp "$work/$name-before/$file" "$work/$name-after/$file"; then
            echo "$name/$file: the same bytes"
        else
            status=1
        fi
    done
done
exit $status
