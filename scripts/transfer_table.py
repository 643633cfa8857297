#!/usr/bin/env python3
"""What transfer buys: four methods on a few handwritten digits, as a Markdown table.

    python3 scripts/transfer_table.py [--seeds N] [--images N] [--threads N]

For each seed, N images of each class (10 unless told otherwise) are drawn from data/digits/train and
listed in a CSV to train on; equally many others are listed in a second one, with which `partial`,
`full` and `scratch` choose their best epoch (`linear` chooses its C inside the training images). Within a
seed all methods get the same images. All are measured on data/digits/test, which nothing else looks
at. The table shows mean and standard deviation over the seeds, which differ in the images that were drawn
and in the random numbers of training. The settings are recipes/digits-METHOD.yaml.

Needs ./target/release/tl and nothing beyond Python's standard library. Everything is written below
runs/transfer.
"""

import argparse
import csv
import json
import os
import random
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
METHODS = ("linear", "partial", "full", "scratch")
POOL = ROOT / "data" / "digits" / "train"
RECIPES = ROOT / "recipes"
RUNS = ROOT / "runs" / "transfer"
TL = ROOT / "target" / "release" / "tl"


class Failure(Exception):
    """Something that the person at the terminal can mend, told in one line."""


def main() -> int:
    parser = argparse.ArgumentParser(description="What transfer buys, as a Markdown table.")
    parser.add_argument("--seeds", type=at_least(1), default=5, metavar="N", help="runs of each method (5)")
    parser.add_argument("--images", type=at_least(2), default=10, metavar="N", help="images a class (10)")
    parser.add_argument("--threads", type=at_least(1), metavar="N", help="CPU threads (all)")
    args = parser.parse_args()
    try:
        if not TL.is_file():
            raise Failure(f"{TL.relative_to(ROOT)} is missing: build it with `make` or `cargo build --release`")
        print_table(args)
    except Failure as failure:
        print(f"transfer_table: {failure}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"transfer_table: {error}", file=sys.stderr)
        return 1
    return 0


def at_least(least: int):
    """An argparse type: a whole number from `least` up."""

    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"expected a whole number from {least} up, found {text}")
        return value

    return number


def print_table(args: argparse.Namespace) -> None:
    """Runs everything and prints the table as soon as all of it is known."""
    RUNS.mkdir(parents=True, exist_ok=True)
    results = {method: [] for method in METHODS}
    for seed in range(args.seeds):
        lists = draw(seed, args.images)
        for method in METHODS:
            accuracy, seconds = run(method, seed, lists, args.threads)
            print(f"seed {seed}, {method}: {accuracy:.3f} in {seconds:.1f} s", file=sys.stderr)
            results[method].append((accuracy, seconds))
    print(f"| {args.images} images a class | test accuracy | seconds |")
    print("| --- | --- | --- |")
    for method, runs in results.items():
        accuracies, seconds = zip(*runs)
        spread = f" ± {statistics.stdev(accuracies):.3f}" if len(runs) > 1 else ""
        print(f"| `{method}` | {statistics.mean(accuracies):.3f}{spread} | {statistics.mean(seconds):.1f} |")


def draw(seed: int, images: int) -> dict:
    """Writes the two CSV files of a seed; returns their paths by recipe key."""
    rng = random.Random(seed)
    rows = {"train": [], "val": []}
    for folder in sorted(path for path in POOL.iterdir() if path.is_dir()):
        files = sorted(folder.glob("*.png"))
        if len(files) < 2 * images:
            raise Failure(f"--images {images} needs {2 * images} files in {folder}, which has {len(files)}")
        drawn = rng.sample(files, 2 * images)
        rows["train"] += [(path, folder.name) for path in drawn[:images]]
        rows["val"] += [(path, folder.name) for path in drawn[images:]]
    lists = {}
    for part, labelled in rows.items():
        path = RUNS / f"{part}-{seed}.csv"
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("path", "label"))
            writer.writerows((os.path.relpath(image, RUNS), label) for image, label in labelled)
        lists[f"data.{part}"] = path
    return lists


def run(method: str, seed: int, lists: dict, threads) -> tuple:
    """One `tl finetune`; returns the test accuracy and the seconds that its report states."""
    out = RUNS / f"{method}-{seed}"
    # `--set` reads paths relative to the recipe, `--out` relative to the working directory.
    command = [str(TL), "finetune", str(RECIPES / f"digits-{method}.yaml"), "--set", f"seed={seed}"]
    for key, path in lists.items():
        command += ["--set", f"{key}={os.path.relpath(path, RECIPES)}"]
    command += ["--out", str(out), "--overwrite", "--quiet"]
    if threads is not None:
        command += ["--threads", str(threads)]
    if subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=False).returncode != 0:
        raise Failure(f"this command failed: {' '.join(command)}")
    report = json.loads((out / "report.json").read_text())
    return report["test"]["accuracy"], sum(report["seconds"].values())


if __name__ == "__main__":
    sys.exit(main())
