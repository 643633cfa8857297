"""What the tables of both experiments share. A cell is a place (a tuple, such as task and size) with its runs by method."""

import statistics
from collections import Counter, defaultdict


class Cells:
    """All cells, with the methods that have a column, those of them that are fixed, and the corner that a place is in."""

    def __init__(self, methods, fixed, corner):
        self.methods, self.fixed, self.corner = methods, fixed, corner
        self.rows = defaultdict(lambda: defaultdict(list))

    def add(self, place, row):
        self.rows[place][row["method"]].append(row)

    def best(self, runs):
        """The fixed method with the highest mean."""
        return max((method for method in self.fixed if method in runs), key=lambda method: mean(runs[method]), default=None)

    def regret(self, runs, method):
        """How far a method is behind the best fixed one, in points; less than 0 if it is ahead."""
        top = self.best(runs)
        if method not in runs or top is None:
            return None
        return mean(runs[top]) - mean(runs[method])

    def complete(self):
        """The cells in which every fixed method was run: another would flatter or punish what is compared with them."""
        fixed = [method for method in self.fixed if any(method in runs for runs in self.rows.values())]
        return {place: runs for place, runs in self.rows.items() if all(method in runs for method in fixed)}

    def print_accuracies(self, columns):
        print_row(*columns, "corner", *code(self.methods), "`auto` chose")
        print("|" + " --- |" * (len(columns) - 1) + " ---: | --- |" + " ---: |" * len(self.methods) + " --- |")
        for place, runs in sorted(self.rows.items()):
            top = self.best(runs)
            shown = []
            for method in self.methods:
                text = spread(accuracies(runs[method])) if method in runs else "–"
                shown.append(f"**{text}**" if method == top else text)
            *names, task, size = place
            print_row(*names, f"`{task}`", size, self.corner(place), *shown, picked(runs))
        print()

    def print_regrets(self, groups):
        """Each policy's regret by group: `auto` beside always choosing one method. groups(place) names a place's groups."""
        grouped = by_group(self.complete(), groups)
        print_row("regret in points, mean (largest)", "cells", *code(self.methods))
        print("| --- | ---: |" + " ---: |" * len(self.methods))
        for name, cells in grouped:
            shown = []
            for method in self.methods:
                values = [value for value in (self.regret(runs, method) for runs in cells) if value is not None]
                shown.append(f"{statistics.mean(values):.1f} ({max(values):.1f})" if values else "–")
            print_row(name, len(cells), *shown)
        print()


def by_group(cells, groups):
    """(name, cells) of each group in order, and all cells last."""
    grouped = defaultdict(list)
    for place, runs in cells.items():
        for name in (*groups(place), "all"):
            grouped[name].append(runs)
    return [(name, grouped[name]) for name in sorted(grouped, key=lambda name: (name == "all", natural(name)))]


def natural(name):
    """A key that sorts `5 a class` before `20 a class`, and numbers before words."""
    first = name.split()[0]
    return (0, int(first), "") if first.isdigit() else (1, 0, name)


def print_row(*fields):
    print("| " + " | ".join(str(field) for field in fields) + " |")


def code(methods):
    return [f"`{method}`" for method in methods]


def accuracies(rows):
    return [100 * row["test_accuracy"] for row in rows]


def mean(rows):
    return statistics.mean(accuracies(rows))


def spread(values):
    """Mean ± sample standard deviation; one run has none."""
    deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{deviation}"


def picked(runs):
    """What `auto` chose: one method, or how often each."""
    counts = Counter(row["chosen"] for row in runs.get("auto", []))
    if len(counts) == 1:
        return f"`{next(iter(counts))}`"
    return ", ".join(f"`{method}` ×{count}" for method, count in counts.most_common())


def total(cells, method, seconds):
    """Seconds of the mean run of each cell, summed; seconds(row) are those of a run."""
    return sum(statistics.mean(seconds(row) for row in runs[method]) for runs in cells)
