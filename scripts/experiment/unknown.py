"""How well confidences hold, and whether strangers are known, on a folder of tasks: the tables of docs/unknown.md.

    python scripts/experiment/unknown.py TASKS [--tl target/release/tl] [--model M] [--method linear] [--images 100]

TASKS holds TASK/{train,test}/CLASS/IMAGE. Of each task a model is trained on all classes: its far strangers are test
images of the other tasks. Another is trained on half of the classes (drawn by lot), and its near strangers are
the test images of the other half. Results are kept in --out, and the same command goes on where it was stopped.
"""

import argparse
import csv
import json
import random
import subprocess
from pathlib import Path

FAR = 30  # strangers of each other task
DRAWS = 1  # of the classes that stay away


def images(folder, most=None, draw=None):
    """The images of a class, at most so many of them."""
    found = sorted(path for path in folder.iterdir() if path.is_file())
    return found if most is None or len(found) <= most else draw.sample(found, most)


def classes(task):
    return sorted(path.name for path in (task / "train").iterdir() if path.is_dir())


def write(path, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *rows])


def run(args, *command):
    done = subprocess.run([args.tl, *command, "--quiet", "--threads", str(args.threads)], capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(command)}: {done.stderr}")


def trained(args, name, task, kept):
    """The run folder of a model that knows the `kept` classes."""
    folder, draw = args.out / name, random.Random(0)
    if (folder / "run/report.json").is_file():
        return folder / "run"
    folder.mkdir(parents=True, exist_ok=True)
    for part, most in (("train", args.images), ("test", None)):
        write(folder / f"{part}.csv", [(p, c) for c in kept for p in images(task / part / c, most, draw)])
    recipe = {
        "model": args.model,
        "data": {"train": "train.csv", "val": 0.2, "test": "test.csv"},
        "strategy": {"method": args.method},
    }
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    run(args, "finetune", str(folder / "recipe.yaml"), "--out", str(folder / "run"), "--overwrite")
    return folder / "run"


def predicted(args, model, part, paths):
    """The softmax's doubt of each image, and how strange it is."""
    listed, out = model.parent / f"{part}.txt", model.parent / f"{part}.jsonl"
    listed.write_text("".join(f"{path}\n" for path in paths))
    if not out.is_file():
        run(args, "predict", "--model", str(model), "--raw", "--out", str(out), str(listed))
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    rows = [row for row in rows if row["error"] is None]
    return [1 - row["confidence"] for row in rows], [row["unknown"] for row in rows]


def auroc(known, strangers):
    """The probability that a stranger is given the greater number; a tie is a half."""
    values = sorted([(value, 0) for value in known] + [(value, 1) for value in strangers])
    ranks, start = 0.0, 0
    while start < len(values):
        end = start
        while end < len(values) and values[end][0] == values[start][0]:
            end += 1
        ranks += (start + end + 1) / 2 * sum(stranger for _, stranger in values[start:end])
        start = end
    n, m = len(known), len(strangers)
    return (ranks - m * (m + 1) / 2) / (n * m)


def told(args, model, task, kept, strangers):
    known = predicted(args, model, "known", [p for c in kept for p in images(task / "test" / c)])
    others = predicted(args, model, "strangers", strangers)
    share = lambda values: sum(value > 0.95 for value in values) / len(values)
    return {
        "softmax": auroc(known[0], others[0]),
        "unknown": auroc(known[1], others[1]),
        "kept": 1 - share(known[1]),
        "rejected": share(others[1]),
    }


def measured(args, task, tasks):
    every = classes(task)
    draw = random.Random(1)
    model = trained(args, f"{task.name}-all", task, every)
    others = [other for other in tasks if other != task]
    far = [p for other in others for p in draw.sample([p for c in classes(other) for p in images(other / "test" / c)], FAR)]
    row = {"task": task.name, "calibration": json.loads((model / "report.json").read_text())["calibration"]}
    row["far"] = told(args, model, task, every, far)
    row["near"] = []
    for number in range(DRAWS if len(every) > 3 else 0):
        away = set(random.Random(number).sample(every, len(every) // 2))
        kept = [name for name in every if name not in away]
        model = trained(args, f"{task.name}-half-{number}", task, kept)
        strangers = [p for name in sorted(away) for p in images(task / "test" / name)]
        row["near"].append(told(args, model, task, kept, strangers))
    return row


def table(rows):
    print("| task | temperature | ECE | log-loss | near: softmax | `unknown` | far: softmax | `unknown` | known, kept | far, rejected |")
    print("| --- |" + " ---: |" * 9)
    cells = []
    for row in rows:
        test = row["calibration"]["test"]
        pair = lambda key: [test["before"][key], test["after"][key]]
        near = [sum(one[key] for one in row["near"]) / len(row["near"]) if row["near"] else None for key in ("softmax", "unknown")]
        far = [row["far"][key] for key in ("softmax", "unknown", "kept", "rejected")]
        cells.append([row["calibration"]["temperature"], *pair("ece"), *pair("log_loss"), *near, *far])
    names = [f"`{row['task']}`" for row in rows] + [f"mean of {len(rows)}"]
    known = [[value for value in column if value is not None] for column in zip(*cells)]
    cells.append([sum(column) / len(column) for column in known])
    for name, (t, e0, e1, l0, l1, *rest) in zip(names, cells):
        rest = [f"{value:.3f}" if value is not None else "–" for value in rest]
        print(f"| {name} | {t:.2f} | {e0:.3f} → {e1:.3f} | {l0:.3f} → {l1:.3f} | " + " | ".join(rest) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", type=Path)
    parser.add_argument("--tl", default="target/release/tl")
    parser.add_argument("--model", default="efficientnet_lite0")
    parser.add_argument("--method", default="linear")
    parser.add_argument("--images", type=int, default=100, help="training images of each class, a fifth for validation")
    parser.add_argument("--out", type=Path, default=Path("build/unknown"))
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    args.tasks, args.out = args.tasks.resolve(), args.out.resolve() / f"{args.method}-{args.images}"
    tasks = [path for path in sorted(args.tasks.iterdir()) if (path / "train").is_dir() and (path / "test").is_dir()]
    table([measured(args, task, tasks) for task in tasks])


if __name__ == "__main__":
    main()
