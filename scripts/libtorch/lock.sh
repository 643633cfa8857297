#!/usr/bin/env bash
# Writes cpu.txt and cuda.txt anew: the packages that scripts/setup.sh installs, with the sha256 of each file, for
# x86-64 and for ARM. After a change of TORCH_VERSION in scripts/common.sh. Nothing is installed, little is downloaded.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

SCRIPT_NAME=lock
# shellcheck source=scripts/common.sh
source ../common.sh

# The CPU library of the package is linked to these two of its dependencies; the rest is for CUDA and for Python.
CPU=(--no-deps "torch==$TORCH_VERSION" 'nvidia-cuda-runtime==13.0.*' 'nvidia-cuda-cupti==13.0.*')
CUDA=("torch==$TORCH_VERSION")

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# resolve NAME MACHINE REQUIREMENT...: pip's report on what it would install.
resolve() {
    local name=$1 machine=$2 minor tags=()
    shift 2
    for minor in {5..39}; do tags+=(--platform "manylinux_2_${minor}_$machine"); done
    for minor in manylinux2014 manylinux2010 manylinux1 linux; do tags+=(--platform "${minor}_$machine"); done
    python3 -m pip install --quiet --dry-run --ignore-installed --report "$scratch/$name-$machine.json" \
        --target "$scratch/none" --python-version 3.12 --implementation cp --only-binary=:all: "${tags[@]}" "$@"
}

for machine in x86_64 aarch64; do
    resolve cpu "$machine" "${CPU[@]}"
    resolve cuda "$machine" "${CUDA[@]}"
done
python3 - "$scratch" <<'PYTHON'
import json, pathlib, sys

for name in ["cpu", "cuda"]:
    packages = {}
    for report in sorted(pathlib.Path(sys.argv[1]).glob(f"{name}-*.json")):
        for package in json.loads(report.read_text())["install"]:
            pin = f"{package['metadata']['name'].lower()}=={package['metadata']['version']}"
            packages.setdefault(pin, set()).add(package["download_info"]["archive_info"]["hashes"]["sha256"])
    lines = ["# Written by scripts/libtorch/lock.sh."]
    for pin, digests in sorted(packages.items()):
        lines.append(" \\\n".join([pin, *(f"    --hash=sha256:{digest}" for digest in sorted(digests))]))
    pathlib.Path(f"{name}.txt").write_text("\n".join(lines) + "\n")
PYTHON
say "wrote $(grep -c == cpu.txt) packages to cpu.txt, $(grep -c == cuda.txt) to cuda.txt"
