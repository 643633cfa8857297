#!/usr/bin/env python3
"""The tables of the experiment on photographs, from build/photos/results.jsonl: photos.py prints them when it ends.

    python3 scripts/experiment/photos_table.py [RESULTS]

For each folder, network, weights and side: the accuracy on the test images of every method and reference (mean ± standard
deviation over the seeds, in per cent); the regret of each, which is the mean accuracy of the best fixed method of `tl` in a
cell less its own; how far `auto` is ahead of the better of the two references; mean cross-entropy and calibration error;
and what each costs beside always `full`. The corner of a cell is what `auto` measured.
"""

import argparse
import contextlib
import io
import statistics
import sys
from collections import Counter, defaultdict
from pathlib import Path

import cells
import runs
from cells import code, print_row

FIXED = ("linear", "stages", "partial", "full")
REFERENCES = ("tutorial", "sklearn")
UNKNOWN = "–"  # the corner of a cell without `auto`
METHODS = (*FIXED, "auto", *REFERENCES)


def main() -> int:
    parser = argparse.ArgumentParser(description="The tables of the experiment on photographs.")
    default = runs.ROOT / "build" / "photos" / "results.jsonl"
    parser.add_argument("results", type=Path, nargs="?", default=default, metavar="RESULTS")
    args = parser.parse_args()
    rows = runs.Results(args.results).rows()
    if not rows:
        print(f"photos_table: {args.results} has no run: scripts/experiment/photos.py writes it", file=sys.stderr)
        return 1
    print_tables(rows)
    return 0


def write(rows, path):
    """Prints the tables, and writes them to a file."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        print_tables(rows)
    print(text.getvalue(), end="")
    if rows:
        path.write_text(text.getvalue())


def print_tables(rows):
    settings = defaultdict(dict)
    for row in rows:
        # A run that was made again has two lines: the later one counts.
        run = tuple(row[part] for part in ("task", "size", "seed", "method"))
        settings[row["photos"], row["model"], row["weights"], row["side"]][run] = row
    for (photos, model, weights, side), found in settings.items():
        print(f"`{Path(photos).name}`, {model}, weights {Path(weights).name}, input of {side}×{side}\n")
        measured = list(found.values())
        verdicts = corners(measured)
        present = [method for method in METHODS if any(row["method"] == method for row in measured)]
        table = cells.Cells(present, FIXED, lambda place: verdicts.get(place, UNKNOWN))
        for row in measured:
            table.add((row["task"], row["size"]), row)
        print_setting(table)
        builds = {row["tl"] for row in measured if row.get("tl")}
        if len(builds) > 1:
            print(f"These are runs of {len(builds)} different builds of tl.\n")


def corners(rows):
    """What `auto` measured in each cell: size and similarity, as most of its seeds have it."""
    found = defaultdict(Counter)
    for row in rows:
        if row["method"] == "auto" and row.get("strategy"):
            similarity = row["strategy"].get("similarity") or {}
            corner = f"{row['strategy']['size']['verdict']}, {similarity.get('verdict', '–')}"
            found[row["task"], row["size"]][corner] += 1
    return {place: counts.most_common(1)[0][0] for place, counts in found.items()}


def print_setting(table):
    def groups(place):
        corner = table.corner(place)
        return [f"{place[1]} a class", *([] if corner == UNKNOWN else [corner])]

    table.print_accuracies(("task", "images a class"))
    table.print_regrets(groups)
    print_against_references(table, groups)
    print_probabilities(table, groups)
    print_costs(table, groups)


def print_against_references(table, groups):
    """`auto` less the better reference of each cell that has all three."""
    both = {place: runs for place, runs in table.rows.items() if all(m in runs for m in ("auto", *REFERENCES))}
    if not both:
        return
    print_row("`auto` less the better reference, in points", "cells", "mean", "smallest", "ahead or level")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, group in cells.by_group(both, groups):
        leads = [cells.mean(runs["auto"]) - max(cells.mean(runs[m]) for m in REFERENCES) for runs in group]
        ahead = sum(lead >= 0 for lead in leads)
        print_row(name, len(leads), f"{statistics.mean(leads):.1f}", f"{min(leads):.1f}", f"{ahead} of {len(leads)}")
    print()


def print_probabilities(table, groups):
    """Means over the cells that have all the methods that any cell has."""
    present, full = table.methods, shared(table)
    if not full:
        return
    print_row("mean cross-entropy (calibration error, in points)", "cells", *code(present))
    print("| --- | ---: |" + " ---: |" * len(present))
    for name, group in cells.by_group(full, groups):
        shown = []
        for method in present:
            loss = statistics.mean(statistics.mean(row["test_loss"] for row in runs[method]) for runs in group)
            errors = [row["calibration_error"] for runs in group for row in runs[method] if "calibration_error" in row]
            shown.append(f"{loss:.3f}" + (f" ({100 * statistics.mean(errors):.1f})" if errors else ""))
        print_row(name, len(group), *shown)
    print()


def print_costs(table, groups):
    """Seconds of whole runs, and CPU time as a share of that of `full`, which other work on the machine changes less."""
    present, full = table.methods, shared(table)
    if not full:
        return
    shares = " (CPU time beside `full`)" if "full" in present else ""
    print_row(f"seconds of a run{shares}", "cells", *code(present))
    print("| --- | ---: |" + " ---: |" * len(present))
    for name, group in cells.by_group(full, groups):
        shown = []
        for method in present:
            text = f"{cells.total(group, method, lambda row: row['seconds']) / len(group):.1f}"
            if shares:
                share = cells.total(group, method, cpu) / max(cells.total(group, "full", cpu), 1e-9)
                text += f" ({share:.2f})"
            shown.append(text)
        print_row(name, len(group), *shown)
    print()


def cpu(row):
    return row["cpu_seconds"]


def shared(table):
    """The cells that have all the methods."""
    return {place: runs for place, runs in table.rows.items() if all(method in runs for method in table.methods)}


if __name__ == "__main__":
    sys.exit(main())
