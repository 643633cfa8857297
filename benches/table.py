#!/usr/bin/env python3
"""build/bench/results.jsonl as a Markdown table; docs/performance.md between its markers.

    table.py [--results FILE] [--write docs/performance.md]

Of each case the newest program's results count.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"


def read(results: Path) -> list:
    """All lines; a last one that was cut off by an interruption is not one."""
    rows = []
    if results.is_file():
        for line in results.read_text().splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                continue
    return rows


def heading(machine: dict) -> str:
    return (
        f"tl {machine['tl']}, torch {machine['torch']}, torchvision {machine['torchvision']}, "
        f"{machine['processor']}, {machine['threads']} of {machine['cores_of_the_machine']} cores, "
        f"{machine['images']} images"
    )


def seconds_of(row: dict) -> float:
    """What is compared: the peer's own clock where there is one; of `tl` the whole program."""
    return row.get("work", row["seconds"])


def markdown(rows: list, machine: dict) -> str:
    """The table of one machine and program."""
    rows = [row for row in rows if row["machine"] == machine]
    lines = [heading(machine), "", *HEAD]
    for case in dict.fromkeys(row["case"] for row in rows):
        lines.append(line(case, [row for row in rows if row["case"] == case]))
    memory = growth(rows)
    return "\n".join(lines + ([""] + memory if memory else []))


HEAD = [
    "| case | runs | `tl`, s | peer, s | ratio | peer at its best, s | ratio | memory, MiB | difference |",
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
]


def line(case: str, rows: list) -> str:
    last = rows[-1]
    measured = [row for row in rows if "seconds" in row]
    if "failed" in last:
        return f"| {case} | | failed: {last['failed']} | | | | | | |"
    if not measured:
        return f"| {case} | | not available: {last['unavailable']} | | | | | | |"
    by = {who: [row for row in measured if row["who"] == who] for who in dict.fromkeys(row["who"] for row in measured)}
    ours = by["tl"]
    cells = [case, str(len(ours)), spread(ours)]
    for who in ("default", "best"):
        theirs = by.get(who, [])
        cells += [spread(theirs), f"**{ratio(ours, theirs):.2f}**"] if theirs else ["", ""]
    memory = "/".join(f"{statistics.median(map(memory_of, runs)):.0f}" for runs in by.values())
    difference = max((row["difference"] for row in measured if "difference" in row), default=None)
    cells += [memory, "" if difference is None else f"{difference:.1g}"]
    text = f"| {' | '.join(cells)} |"
    if "draft" in by:
        theirs = by["draft"]
        empty = " | " * 4
        text += f"\n| {case}, the peer with Pillow's `draft` | {len(theirs)} | {spread(ours)}{empty}"
        text += f"{spread(theirs)} | **{ratio(ours, theirs):.2f}** | | |"
    return text


def memory_of(row: dict) -> float:
    return row.get("memory_mib", row["rss_mib"])


def spread(rows: list) -> str:
    """Median and range."""
    if not rows:
        return ""
    seconds = sorted(map(seconds_of, rows))
    return f"{statistics.median(seconds):.2f} ({seconds[0]:.2f} to {seconds[-1]:.2f})"


def ratio(ours: list, theirs: list) -> float:
    """The median of the ratios within each repetition: drift is in both of its sides."""
    by_rep = {row["rep"]: seconds_of(row) for row in ours}
    return statistics.median(seconds_of(row) / by_rep[row["rep"]] for row in theirs if row["rep"] in by_rep)


def growth(rows: list) -> list:
    """Peak memory at ten times the images, over that at the smaller number."""
    said = []
    for who, name in (("tl", "`tl`"), ("best", "the peer, its workers' included")):
        found = [
            [memory_of(row) for row in rows if row["case"] == f"memory-{count}" and row.get("who") == who]
            for count in (1000, 10000)
        ]
        if all(found):
            small, large = map(statistics.median, found)
            said.append(f"Peak memory at 10 times the images: {name} {large / small:.3f} times ({small:.0f} to {large:.0f} MiB).")
    return said


def write(document: Path, text: str) -> None:
    before, begin, rest = document.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"table: {document} has no lines {BEGIN} and {END}")
    document.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def main() -> int:
    parser = argparse.ArgumentParser(description="The results as a Markdown table.")
    parser.add_argument("--results", type=Path, default=ROOT / "build" / "bench" / "results.jsonl")
    parser.add_argument("--write", type=Path, metavar="DOCUMENT", help="replace what stands between its markers")
    args = parser.parse_args()
    rows = read(args.results)
    if not rows:
        print(f"table: {args.results} has no results yet: `make bench`", file=sys.stderr)
        return 1
    # One table for each number of threads of the newest program.
    newest = rows[-1]["machine"]
    same = lambda machine: {**machine, "threads": 0, "images": 0} == {**newest, "threads": 0, "images": 0}
    machines = []
    for row in rows:
        if same(row["machine"]) and row["machine"] not in machines:
            machines.append(row["machine"])
    text = "\n\n".join(markdown(rows, machine) for machine in machines)
    write(args.write, text) if args.write else print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
