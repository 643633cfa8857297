#!/usr/bin/env python3
"""The tables of docs/strategy.md, from build/experiment/results.jsonl.

    python3 scripts/experiment/table.py [--group held_out|development] [RESULTS]

Accuracy on the test images (mean ± standard deviation over the seeds, in per cent) of every method, for each task,
source network and number of images; the corner each falls in; the regret of `auto`, which is the mean accuracy of the
best fixed method less its own; and the training time of `auto` beside that of always `full`.
"""

import argparse
import sys
from pathlib import Path

import run
import runs
import tasks
from cells import Cells, total

FIXED = tuple(method for method in run.METHODS if method != "auto")


def main() -> int:
    parser = argparse.ArgumentParser(description="The tables of docs/strategy.md.")
    parser.add_argument("results", type=Path, nargs="?", default=run.RESULTS.path, metavar="RESULTS")
    parser.add_argument("--group", choices=("held_out", "development"), default="held_out")
    args = parser.parse_args()
    if not args.results.is_file():
        print(f"table: {args.results} is missing: scripts/experiment/run.py writes it", file=sys.stderr)
        return 1
    cells = Cells(run.METHODS, FIXED, corner)
    for row in runs.Results(args.results).rows():
        if tasks.named(row["task"]).group == args.group:
            cells.add((row["source"], row["task"], row["size"]), row)
    if not cells.rows:
        print(f"table: {args.results} has no run of a {args.group} task", file=sys.stderr)
        return 1
    cells.print_accuracies(("source", "task", "images a class"))
    cells.print_regrets(lambda place: [corner(place)])
    print_seconds(cells)
    return 0


def corner(place):
    source, task, size = place
    amount = "little" if size <= tasks.LITTLE else "lots"
    return f"{amount}, {'similar' if tasks.named(task).similar == source else 'different'}"


def print_seconds(cells):
    """Seconds of training, summed over the mean run of each cell that has both; and without the measuring of what is kept."""
    both = [methods for methods in cells.rows.values() if "auto" in methods and "full" in methods]
    if both:
        auto, full = (total(both, method, lambda row: row["seconds"]) for method in ("auto", "full"))
        trained = [total(both, m, lambda row: row["seconds"] - row.get("measure_seconds", 0)) for m in ("auto", "full")]
        print(f"One run of each of {len(both)} cells takes `auto` {auto:.0f} s on one thread and `full` {full:.0f} s ", end="")
        print(f"({auto / full:.2f} of it; {trained[0] / max(trained[1], 1e-9):.2f} without the measuring at the end).")


if __name__ == "__main__":
    sys.exit(main())
