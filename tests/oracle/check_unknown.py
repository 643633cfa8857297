"""Compares what `tl finetune` keeps of calibration and strangers with scipy and whole matrices, on shipped digits.

    python tests/oracle/check_unknown.py TL

The temperature has to be the minimum that scipy finds on the logits that `tl extract` gives, and the column `unknown` of
`tl predict` what unknown.py makes of the features and logits that `tl extract` gives, but for rounding to 16 bits.
"""

import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from unknown import shares

ROOT = Path(__file__).resolve().parent.parent.parent
DIGITS = ROOT / "data/digits"
WEIGHTS = ROOT / "data/shufflenet_v2_x0_5-letters.safetensors"
PARTS = {"train": ("train", 0, 10), "val": ("train", 20, 4), "test": ("test", 0, 4)}


def listed(part, skip, count):
    classes = sorted(path.name for path in (DIGITS / part).iterdir())
    return [(path, name) for name in classes for path in sorted((DIGITS / part / name).iterdir())[skip : skip + count]]


def check(tl, folder, method, train):
    def run(*words):
        command = [tl, *words, "--threads", "1", "--quiet"]
        done = subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: exit code {done.returncode}\n{done.stderr}"

    labels = {}
    for name, part in PARTS.items():
        rows = listed(*part)
        labels[name] = np.array([int(label) for _, label in rows])
        with (folder / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("path", "label"), *rows])
    recipe = {
        "model": "shufflenet_v2_x0_5",
        "weights": str(WEIGHTS),
        "preprocess": {"resize_size": 32},
        "data": {name: f"{name}.csv" for name in PARTS},
        "strategy": {"method": method},
        "train": train,
    }
    (folder / "r.yaml").write_text(json.dumps(recipe))
    run("finetune", "r.yaml", "--out", "run", "--overwrite")

    def read(name, stage):
        run("extract", "--model", "run", "--stage", stage, "--out", "x.npy", f"{name}.csv")
        return np.load(folder / "x.npy").astype(np.float64)

    val, test = ((read(name, "features"), read(name, "logits")) for name in ("val", "test"))
    expected = shares(read("train", "features"), labels["train"], val, test)
    run("predict", "--model", "run", "--out", "p.csv", "test.csv")
    with (folder / "p.csv").open(newline="") as file:
        found = np.array([float(row["unknown"]) for row in csv.DictReader(file)])
    worst = np.abs(found - expected).max()
    assert worst < 5e-3, f"{method}: a share is off by {worst:.2e}"

    def loss(a):
        own = log_softmax(val[1] / np.exp(a), axis=1)[np.arange(len(val[1])), labels["val"]]
        return a * a / 0.2 - own.sum()

    fitted = np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded", options={"xatol": 1e-10}).x)
    temperature = json.loads((folder / "run/report.json").read_text())["calibration"]["temperature"]
    assert abs(temperature / fitted - 1) < 1e-4, f"{method}: a temperature of {temperature}, not {fitted}"
    print(f"  {method:<10} temperature {temperature:.4f}, off by {abs(temperature - fitted):.1e}; shares {worst:.1e}")


def main(tl):
    tl = Path(tl).resolve()
    with tempfile.TemporaryDirectory() as folder:
        check(tl, Path(folder), "linear", {})
        check(tl, Path(folder), "stages", {})
        check(tl, Path(folder), "partial", {"epochs": 3})


if __name__ == "__main__":
    main(sys.argv[1])
