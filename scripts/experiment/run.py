#!/usr/bin/env python3
"""Run the methods on the tasks of the experiment, and keep one line of JSON for each run.

    python3 scripts/experiment/run.py [--quick] [--methods M,...] [--tasks T,...] [--sources S,...]
                                      [--sizes N,...] [--seeds N] [--threads N] [--forecast]

Each run is one `tl finetune` on one thread, as many at once as --threads says. Its line goes to
build/experiment/results.jsonl; a run that has its line there is not made again, so that an interrupted experiment goes
on where it was. Every method gets the same images of a seed: N of each class drawn from the task's training images, of
which `tl` keeps a fifth for validation. The test images are looked at once, at the end of a run.

--quick is one seed of two sizes of one task of each corner. Without --tasks all held-out tasks are run; `--tasks
development` and `--tasks all` name groups. Needs what datasets.py and pretrain-textures.yaml make.
"""

import argparse
import os
import random
import shutil
import sys
from pathlib import Path

import runs
import tasks
from runs import ROOT

BUILD = ROOT / "build" / "experiment"
RESULTS = runs.Results(BUILD / "results.jsonl")
TL = Path(os.environ.get("TL", ROOT / "target" / "release" / "tl"))
METHODS = ("linear", "stages", "partial", "full", "scratch", "auto")
QUICK = {"tasks": ("signs_blurred", "textures_fourth", "bars"), "sizes": (5, 100), "seeds": 1}

# The network, its weights, the side of its input, and images a second that one thread trains (for the forecast alone).
SOURCES = {
    "letters": ("shufflenet_v2_x0_5", ROOT / "data" / "shufflenet_v2_x0_5-letters.safetensors", 64, 750),
    "textures": ("shufflenet_v2_x1_0", BUILD / "sources" / "textures" / "model.safetensors", 48, 500),
}
# Epochs of every training by images a class: what an hour allows.
EPOCHS = {5: 40, 20: 25, 100: 10, 500: 5}
AUGMENT = {"scale": [0.7, 1.0], "flip": 0.0}  # characters may not be mirrored


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the methods on the tasks of the experiment.")
    parser.add_argument("--quick", action="store_true", help="a subset that takes 5 minutes on 4 cores")
    parser.add_argument("--methods", type=runs.names(METHODS), default=METHODS, metavar="M,...")
    parser.add_argument("--tasks", default="", metavar="T,...", help="names, or development, held_out, all")
    parser.add_argument("--sources", type=runs.names(SOURCES), default=tuple(SOURCES), metavar="S,...")
    parser.add_argument("--sizes", default="", metavar="N,...", help="images a class")
    parser.add_argument("--seeds", type=int, default=5, metavar="N")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), metavar="N", help="runs at once")
    parser.add_argument("--forecast", action="store_true", help="say how long it would take, and stop")
    args = parser.parse_args()
    done = {key(row) for row in RESULTS.rows()}
    wanted = [job for job in plan(args) if key(job) not in done]
    seconds = sum(forecast(job) for job in wanted) / args.threads
    print(f"{len(wanted)} runs to make, about {seconds / 60:.0f} minutes at {args.threads} threads", file=sys.stderr)
    if args.forecast or not wanted:
        return 0
    return runs.make(wanted, args.threads, forecast, run, label)


def chosen_tasks(args):
    if args.quick and not args.tasks:
        return [tasks.named(name) for name in QUICK["tasks"]]
    wanted = args.tasks or "held_out"
    if wanted == "all":
        return list(tasks.TASKS)
    if wanted in ("development", "held_out"):
        return [task for task in tasks.TASKS if task.group == wanted]
    return [tasks.named(name) for name in wanted.split(",")]


def plan(args):
    """Every run, those of one seed together and the small ones first."""
    sizes = QUICK["sizes"] if args.quick else sorted(EPOCHS)
    if args.sizes:
        sizes = [int(size) for size in args.sizes.split(",")]
    for seed in range(QUICK["seeds"] if args.quick else args.seeds):
        for size in sizes:
            for source in args.sources:
                for task in chosen_tasks(args):
                    for method in args.methods if size in task.sizes else ():
                        yield {"task": task.name, "source": source, "size": size, "seed": seed, "method": method}


def key(row):
    return tuple(row[part] for part in ("task", "source", "size", "seed", "method"))


def label(job):
    return "{task}-{source}-{size}-{seed}-{method}".format(**job)


def forecast(job):
    """Seconds that a run should take on one thread."""
    model, _, _, speed = SOURCES[job["source"]]
    images = job["size"] * len(tasks.classes(job["task"]))
    passes = images * EPOCHS[job["size"]]
    cost = {"linear": images * 1.2, "stages": images * 1.5, "partial": passes * 0.6, "scratch": passes}
    return 1.0 + cost.get(job["method"], passes) * 0.8 / speed


def run(job):
    """One `tl finetune`; writes its line, and returns what to say of it."""
    out = BUILD / "runs" / label(job)
    report, _ = runs.finetune(TL, recipe(job), out, ["--threads", "1"])
    row = dict(job)
    row["chosen"], row["reason"] = report["method"], report["reason"]
    row["strategy"] = report.get("strategy")
    row["test_accuracy"] = report["test"]["accuracy"]
    row["val_accuracy"] = (report.get("best") or report["val"]).get("val_accuracy", report["val"].get("accuracy"))
    row["seconds"] = round(sum(report["seconds"].values()), 2)
    row["measure_seconds"] = round(report["seconds"].get("evaluate", 0.0), 2)
    row["train_seconds"] = round(report["seconds"].get("train", 0.0), 2)
    RESULTS.add(row)
    shutil.rmtree(out)  # a model of each run would be 20 GB
    return f"{row['test_accuracy']:.3f} in {row['seconds']:.1f} s"


def recipe(job):
    """The recipe of a run."""
    model, weights, side, _ = SOURCES[job["source"]]
    method, task = job["method"], BUILD / "tasks" / job["task"]
    made = {
        "model": model,
        "weights": str(weights),
        "data": {"train": str(draw(job)), "val": 0.2, "test": str(task / "test")},
        "strategy": {"method": method},
        "augment": AUGMENT,
        "seed": job["seed"],
    }
    if method == "scratch":
        made["weights"] = "none"
        made["preprocess"] = {"resize_size": side, "crop_size": side}
    if method in ("partial", "full", "scratch", "auto"):
        made["train"] = {"epochs": EPOCHS[job["size"]]}
    return made


def draw(job):
    """Lists the training images of a task, size and seed in a CSV; returns its path."""
    folder = BUILD / "tasks" / job["task"] / "train"
    images = []
    for name in sorted(entry.name for entry in folder.iterdir()):
        files = sorted((folder / name).glob("*.png"))
        rng = random.Random("{task}/{size}/{seed}/".format(**job) + name)
        # digits_hand has a few classes of 97 images: then all of them are taken.
        images += [(file, name) for file in rng.sample(files, min(job["size"], len(files)))]
    path = BUILD / "lists" / "{task}-{size}-{seed}.csv".format(**job)
    runs.write_list(path, images)
    return path


if __name__ == "__main__":
    sys.exit(main())
