#!/usr/bin/env bash
# `make demo`: one network fine-tuned on shipped images and used for prediction, each command shown as it is typed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

TL=${TL:-target/release/tl}
RECIPE=recipes/quickstart.yaml
RUN=runs/quickstart
SAMPLES=data/samples

step() {
    printf '\n%s\n$ %s\n' "$1" "${*:2}"
    "${@:2}"
}

started=$SECONDS
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
