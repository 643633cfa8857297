#!/usr/bin/env python3
"""The tables of docs/strategy.md, from build/experiment/results.jsonl.

    python3 scripts/experiment/table.py [--group held_out|development] [RESULTS]

Accuracy on the test images (mean ± standard deviation over the seeds, in per cent) of every method, for each task,
source network and number of images; the corner each falls in; the regret of `auto`, which is the mean accuracy of the
best fixed method less its own; and the training time of `auto` beside that of always `full`.
"""

import argparse
import json
import statistics
import sys
from collections import Counter, defaultdict
from pathlib import Path

import run
import tasks

FIXED = tuple(method for method in run.METHODS if method != "auto")


def main() -> int:
    parser = argparse.ArgumentParser(description="The tables of docs/strategy.md.")
    parser.add_argument("results", type=Path, nargs="?", default=run.RESULTS, metavar="RESULTS")
    parser.add_argument("--group", choices=("held_out", "development"), default="held_out")
    args = parser.parse_args()
    if not args.results.is_file():
        print(f"table: {args.results} is missing: scripts/experiment/run.py writes it", file=sys.stderr)
        return 1
    cells = defaultdict(lambda: defaultdict(list))
    for line in args.results.read_text().splitlines():
        row = json.loads(line)
        if tasks.named(row["task"]).group == args.group:
            cells[row["source"], row["task"], row["size"]][row["method"]].append(row)
    if not cells:
        print(f"table: {args.results} has no run of a {args.group} task", file=sys.stderr)
        return 1
    print_accuracies(cells)
    print_regrets(cells)
    print_seconds(cells)
    return 0


def corner(source, task, size):
    amount = "little" if size <= tasks.LITTLE else "lots"
    return f"{amount}, {'similar' if tasks.named(task).similar == source else 'different'}"


def accuracies(rows):
    return [100 * row["test_accuracy"] for row in rows]


def mean(rows):
    return statistics.mean(accuracies(rows))


def spread(rows):
    """Mean ± sample standard deviation; one run has none."""
    values = accuracies(rows)
    deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{deviation}"


def best(methods):
    """The fixed method with the highest mean."""
    return max((method for method in FIXED if method in methods), key=lambda method: mean(methods[method]), default=None)


def picked(methods):
    """What `auto` chose: one method, or how often each."""
    counts = Counter(row["chosen"] for row in methods.get("auto", []))
    if len(counts) == 1:
        return f"`{next(iter(counts))}`"
    return ", ".join(f"`{method}` ×{count}" for method, count in counts.most_common())


def print_accuracies(cells):
    print("| source | task | images a class | corner | " + " | ".join(f"`{m}`" for m in run.METHODS) + " | `auto` chose |")
    print("| --- | --- | ---: | --- |" + " ---: |" * len(run.METHODS) + " --- |")
    for (source, task, size), methods in sorted(cells.items()):
        top = best(methods)
        shown = []
        for method in run.METHODS:
            text = spread(methods[method]) if method in methods else "–"
            shown.append(f"**{text}**" if method == top else text)
        print(f"| {source} | `{task}` | {size} | {corner(source, task, size)} | {' | '.join(shown)} | {picked(methods)} |")
    print()


def regret(methods, method):
    """How far a method is behind the best fixed one, in points; less than 0 if it is ahead."""
    top = best(methods)
    if method not in methods or top is None:
        return None
    return mean(methods[top]) - mean(methods[method])


def print_regrets(cells):
    """Each policy's regret, by corner: `auto` beside always choosing one method."""
    corners = defaultdict(list)
    for place, methods in cells.items():
        # A cell where a policy was not run would flatter or punish it: only complete cells count.
        if all(method in methods for method in FIXED if any(method in other for other in cells.values())):
            corners[corner(*place)].append(methods)
            corners["all"].append(methods)
    print("| regret in points, mean (largest) | cells | " + " | ".join(f"`{m}`" for m in run.METHODS) + " |")
    print("| --- | ---: |" + " ---: |" * len(run.METHODS))
    for name in sorted(corners, key=lambda name: (name == "all", name)):
        shown = []
        for method in run.METHODS:
            values = [value for value in (regret(methods, method) for methods in corners[name]) if value is not None]
            shown.append(f"{statistics.mean(values):.1f} ({max(values):.1f})" if values else "–")
        print(f"| {name} | {len(corners[name])} | {' | '.join(shown)} |")
    print()


def print_seconds(cells):
    """Seconds of training, summed over the mean run of each cell that has both."""
    auto = full = count = 0
    for methods in cells.values():
        if "auto" in methods and "full" in methods:
            auto += statistics.mean(row["seconds"] for row in methods["auto"])
            full += statistics.mean(row["seconds"] for row in methods["full"])
            count += 1
    if count:
        print(f"One run of each of {count} cells takes `auto` {auto:.0f} s on one thread and `full` {full:.0f} s ", end="")
        print(f"({auto / full:.2f} of it; {ratio_of_training(cells):.2f} without the measuring at the end).")


def ratio_of_training(cells):
    """The same ratio without the seconds in which the kept model is measured."""
    spent = {method: 0.0 for method in ("auto", "full")}
    for methods in cells.values():
        if all(method in methods for method in spent):
            for method in spent:
                spent[method] += statistics.mean(row["seconds"] - row.get("measure_seconds", 0) for row in methods[method])
    return spent["auto"] / max(spent["full"], 1e-9)


if __name__ == "__main__":
    sys.exit(main())
