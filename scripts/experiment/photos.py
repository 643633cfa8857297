#!/usr/bin/env python3
"""The experiment on photographs: every method of `tl` and two references on a folder of tasks, and the tables of it.

    make experiment PHOTOS=DIR [SIDE=N] [MODEL=NAME] [SIZES="5 20 100"] [SEEDS=N] [METHODS="linear auto tutorial ..."]
                               [TASKS="A B"] [THREADS=N] [JOBS=N] [ARGS="--quick ..."]
    python3 scripts/experiment/photos.py DIR [--side N ...]

DIR holds TASK/{train,test}/CLASS/IMAGE. A cell is a task, a number of training images of each class and a seed that draws
them; a fifth of them are for validation, and all of TASK/test is measured on, once. Images whose bytes are in TASK/test or
were met before are not drawn. Every method gets the same three lists; `tl` fills in all of its own settings. The
references are in reference.py; they learn from the same training images, and `sklearn` does not use the validation images.

SIDE is the side of the network's input, for quick runs; images are resized to 256/224 of it. Without it the input is as
the weights want it. --quick takes the three smallest tasks, 5 and 20 images a class, one seed, and a side of 112.

Runs are made cheapest cell first, JOBS at once on THREADS threads each, on the CPU unless --device says otherwise. Each
adds its line to build/photos/results.jsonl (--out) when it ends. A run that has its line is not made again, so that the
same command goes on where an interrupted one stopped, and a wider one makes only what is new; --again makes methods anew,
for another `tl`. The tables go to standard output and to build/photos/table.md.
"""

import argparse
import csv
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import photos_table
import runs
from photos_table import METHODS, REFERENCES
from runs import ROOT

TL = Path(os.environ.get("TL", ROOT / "target" / "release" / "tl"))
QUICK = {"tasks": 3, "sizes": (5, 20), "seeds": 1, "side": 112}
SIZES = (5, 20, 100)
SEEDS = {5: 3}  # one elsewhere: few images depend on which they are
# What `tl` takes for an image in a folder.
ENDINGS = set("jpg jpeg jpe jfif png apng gif webp bmp dib tif tiff pbm pgm ppm pnm".split())
# What a method costs beside fine-tuning in full, and how often it looks at each image besides: for order and forecast.
WORK = {"linear": (0, 1), "stages": (0, 2), "partial": (0.4, 1), "full": (1, 0), "auto": (0.8, 3), "sklearn": (0, 1)}


class Mistake(Exception):
    """What is wrong with the command or with its folder."""


def main() -> int:
    parser = argparse.ArgumentParser(description="The experiment on photographs.")
    parser.add_argument("photos", type=Path, metavar="DIR", help="a folder of TASK/{train,test}/CLASS/IMAGE")
    parser.add_argument("--side", type=int, metavar="N", help="of the network's input; the weights' own")
    parser.add_argument("--model", default="efficientnet_lite0", metavar="NAME")
    parser.add_argument("--weights", default="DEFAULT", metavar="W", help="DEFAULT, none or a file")
    parser.add_argument("--sizes", type=numbers, metavar="N,...", help="training images a class; 5, 20 and 100")
    parser.add_argument("--seeds", type=int, metavar="N", help="how many; 3 for 5 images a class, 1 elsewhere")
    parser.add_argument("--methods", type=runs.names(METHODS), default=METHODS, metavar="M,...")
    parser.add_argument("--tasks", default="", metavar="T,...", help="some of the folder's; all")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of each run; 1")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at once; 1")
    parser.add_argument("--device", default="cpu", help="of tl; the references are on the CPU")
    parser.add_argument("--tl", type=Path, default=TL, metavar="FILE")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "photos", metavar="DIR")
    parser.add_argument("--again", type=runs.names(METHODS), default=(), metavar="M,...", help="make these anew")
    parser.add_argument("--calibration", action="store_true", help="tl's calibration error too, by a prediction more")
    parser.add_argument("--quick", action="store_true", help="a subset that takes minutes")
    parser.add_argument("--forecast", action="store_true", help="say how many runs there are, and stop")
    args = parser.parse_args()
    try:
        experiment = Experiment(args)
    except Mistake as mistake:
        print(f"photos: {mistake}", file=sys.stderr)
        return 2
    results = experiment.results
    done = {key(row) for row in results.rows() if row["method"] not in args.again}
    wanted = [job for job in experiment.plan() if key(job) not in done]
    seconds = sum(experiment.forecast(job) for job in wanted) / args.jobs
    print(f"{len(wanted)} runs to make, very roughly {seconds / 60:.0f} minutes", file=sys.stderr)
    if args.forecast:
        return 0
    code = runs.make(wanted, args.jobs, experiment.forecast, experiment.run, label)
    photos_table.write(results.rows(), results.path.with_name("table.md"))
    return code


def numbers(text):
    """An argparse type: whole numbers from 2 up (one to train on and one to validate)."""
    chosen = tuple(int(word) for word in text.replace(",", " ").split())
    if not chosen or min(chosen) < 2:
        raise argparse.ArgumentTypeError(f"expected numbers of images a class from 2 up, found {text!r}")
    return chosen


def key(row):
    return tuple(row[part] for part in ("photos", "model", "weights", "side", "task", "size", "seed", "method"))


def label(job):
    return "{model}-{side}-{task}-{size}-{seed}-{method}".format(**job)


class Experiment:
    """What the command asks for, checked."""

    def __init__(self, args):
        self.args = args
        self.results = runs.Results(args.out.resolve() / "results.jsonl")
        self.tl = args.tl.resolve()
        self.photos = args.photos.resolve()
        if not self.tl.is_file():
            raise Mistake(f"{args.tl} is missing: `make build` makes it")
        self.tasks = {task.name: task for task in self.chosen_tasks()}
        entry = published(args.model)
        self.weights = self.find_weights(entry)
        side = args.side or (QUICK["side"] if args.quick else int(entry["crop"]))
        # The classic 256 for 224, but what the weights were published with at their own side.
        resize = int(entry["resize"]) if side == int(entry["crop"]) else round(side * 256 / 224)
        self.preprocess = {"resize_size": resize, "crop_size": side, "interpolation": entry["interpolation"]}
        self.preprocess |= {part: [float(word) for word in entry[part].split()] for part in ("mean", "std")}
        if any(method in REFERENCES for method in args.methods):
            check_python()
        with self.tl.open("rb") as file:
            self.digest = hashlib.file_digest(file, "sha256").hexdigest()[:12]

    def chosen_tasks(self):
        folder, wanted = self.photos, self.args.tasks.replace(",", " ").split()
        if not folder.is_dir():
            raise Mistake(f"{folder} is no folder: PHOTOS=DIR names one that holds TASK/{{train,test}}/CLASS/IMAGE")
        # What has neither part is no task, and may lie beside them.
        found = [path.name for path in sorted(folder.iterdir()) if (path / "train").is_dir() or (path / "test").is_dir()]
        if not found:
            raise Mistake(f"{folder} holds no task: TASK/{{train,test}}/CLASS/IMAGE is what a task looks like")
        for name in wanted:
            if name not in found:
                raise Mistake(f"{folder} has no task {name}: it has {', '.join(found)}")
        tasks = [Task(folder / name) for name in wanted or found]
        if self.args.quick and not wanted:
            tasks = sorted(tasks, key=lambda task: len(task.classes))[: QUICK["tasks"]]
        return tasks

    def find_weights(self, entry):
        """The weights file; `none` where there is none."""
        if self.args.weights == "none":
            return "none"
        if self.args.weights == "DEFAULT":
            cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "torch"
            path = Path(os.environ.get("TORCH_HOME") or cache) / "hub" / "checkpoints" / entry["file"]
            if not path.is_file():
                # Torchvision's files are downloaded when they are first wanted.
                how = "make weights MODEL={}" if entry.get("source") else "tl predict --model {} IMAGE"
                raise Mistake(f"the weights file {path} is missing: `{how.format(self.args.model)}` brings it")
            return str(path)
        if not Path(self.args.weights).is_file():
            raise Mistake(f"the weights file {self.args.weights} is missing")
        return str(Path(self.args.weights).resolve())

    def plan(self):
        """Every run: the cheapest cells first, and the cheapest methods of a cell."""
        args = self.args
        cells = []
        for size in args.sizes or (QUICK["sizes"] if args.quick else SIZES):
            for seed in range(args.seeds or (QUICK["seeds"] if args.quick else SEEDS.get(size, 1))):
                for task in self.tasks.values():
                    place = {"photos": str(self.photos), "model": args.model, "weights": args.weights}
                    place |= {"side": self.preprocess["crop_size"], "task": task.name, "size": size, "seed": seed}
                    cells.append(sorted(({**place, "method": method} for method in args.methods), key=self.forecast))
            for task in self.tasks.values():
                task.tell_few(size)
        return [job for cell in sorted(cells, key=lambda cell: sum(map(self.forecast, cell))) for job in cell]

    def forecast(self, job):
        """Seconds that a run might take on one thread, for a network as small as the default one."""
        task = self.tasks[job["task"]]
        images = sum(min(job["size"], len(files)) for files in task.images.values())
        if job["method"] == "tutorial":
            work = 3 * 25 * images
        else:
            share, seen = WORK[job["method"]]
            # Thirty epochs; with few images 200 steps of 16, in a hundred epochs at most.
            work = 3 * share * max(30 * images, min(100 * images, 3200)) + seen * images
        start = 5 if job["method"] in REFERENCES else 1
        return start + 0.03 * (work + len(task.test)) * (job["side"] / 224) ** 2

    def run(self, job):
        """One run; writes its line, and returns what to say of it."""
        task = self.tasks[job["task"]]
        lists = task.write_lists(self.results.path.with_name("lists"), job["size"], job["seed"])
        out = self.results.path.with_name("runs") / label(job)
        row = self.run_reference(job, lists, out) if job["method"] in REFERENCES else self.run_tl(job, lists, out)
        self.results.add({**job, **row})
        return f"{row['test_accuracy']:.3f} in {row['seconds']:.1f} s"

    def run_tl(self, job, lists, out):
        recipe = {
            "model": job["model"],
            "weights": self.weights if job["weights"] != "DEFAULT" else "DEFAULT",
            "data": {part: str(path) for part, path in lists.items()},
            "preprocess": {part: self.preprocess[part] for part in ("resize_size", "crop_size")},
            "strategy": {"method": job["method"]},
            "seed": job["seed"],
        }
        options = ["--threads", str(self.args.threads), "--device", self.args.device]
        report, times = runs.finetune(self.tl, recipe, out, options)
        row = {"chosen": report["method"], "test_accuracy": report["test"]["accuracy"], "test_loss": report["test"]["loss"]}
        row |= {"val_accuracy": report["val"]["accuracy"], "epochs": len(report["epochs"]), **times, "tl": self.digest}
        row |= {part: report.get(part) for part in ("reason", "strategy", "contest")}
        row["images"] = {part: report[part]["images"] for part in ("train", "val", "test")}
        if self.args.calibration:
            row["calibration_error"] = self.calibration(out, self.tasks[job["task"]].folder / "test", options)
        shutil.rmtree(out)
        return row

    def calibration(self, out, test, options):
        """The calibration error of a model by `tl predict`: the report does not have it."""
        predictions, log = out.with_suffix(".csv"), out.with_suffix(".log")
        runs.timed([self.tl, "predict", "--model", out, "--quiet", "--out", predictions, *options, test], log)
        with predictions.open(newline="") as file:
            pairs = [
                (float(row["confidence"]), row["label"] == Path(row["path"]).relative_to(test).parts[0])
                for row in csv.DictReader(file)
            ]
        predictions.unlink()
        log.unlink()
        return calibration_error(pairs)

    def run_reference(self, job, lists, out):
        spec = {
            "model": job["model"],
            "weights": self.weights,
            "preprocess": self.preprocess,
            "lists": {part: str(path) for part, path in lists.items()},
            "classes": list(self.tasks[job["task"]].classes),
            "seed": job["seed"],
            "threads": self.args.threads,
        }
        out.parent.mkdir(parents=True, exist_ok=True)
        path, log = out.with_suffix(".json"), out.with_suffix(".log")
        path.write_text(json.dumps(spec))
        command = [sys.executable, Path(__file__).with_name("reference.py"), job["method"]]
        threads = {name: str(self.args.threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        with path.open() as stdin:
            output, times = runs.timed(command, log, stdin=stdin, env={**os.environ, **threads})
        path.unlink()
        log.unlink()
        told = json.loads(output)
        pairs = list(zip(told.pop("confidence"), told.pop("right")))
        accuracy = sum(right for _, right in pairs) / len(pairs)
        row = {"test_accuracy": accuracy, "test_loss": told.pop("loss"), "calibration_error": calibration_error(pairs)}
        return row | told | times


class Task:
    """A folder of train/CLASS and test/CLASS."""

    def __init__(self, folder):
        self.folder, self.name = folder, folder.name
        for part, what in (("train", "learn from"), ("test", "are measured on")):
            if not (folder / part).is_dir():
                raise Mistake(f"the task {folder} has no folder {part}: {part}/CLASS/IMAGE is what methods {what}")
        test = images_of(folder / "test")
        self.test = [(file, name) for name, files in test.items() for file in files]
        # What may be drawn: equal images on both sides would let a method learn what it is measured on.
        seen = {digest(file) for file, _ in self.test}
        self.images = {}
        for name, files in images_of(folder / "train").items():
            kept = self.images[name] = []
            for file in files:
                if (content := digest(file)) not in seen:
                    seen.add(content)
                    kept.append(file)
        self.classes = sorted(self.images)
        few = [name for name, files in self.images.items() if len(files) < 2]
        if len(self.classes) < 2 or few:
            told = f"too few in {', '.join(few)}" if few else f"classes: {', '.join(self.classes) or 'none'}"
            raise Mistake(f"the task {folder} needs two classes, each of two different training images at least ({told})")
        unknown = sorted(set(test) - set(self.images))
        if unknown or not self.test:
            told = f"classes that train lacks: {', '.join(unknown)}" if unknown else "no image"
            raise Mistake(f"{folder}/test has {told}")

    def tell_few(self, size):
        few = [f"{name} ({len(files)})" for name, files in self.images.items() if len(files) < size]
        if few:
            print(f"note: {self.name} has less than {size} images of {', '.join(few)}: all are taken", file=sys.stderr)

    def write_lists(self, folder, size, seed):
        """Draws the images of a cell; returns the lists of each part, a fifth of each class for validation."""
        drawn = {"train": [], "val": [], "test": self.test}
        for name, files in sorted(self.images.items()):
            chosen = random.Random(f"{self.name}/{size}/{seed}/{name}").sample(files, min(size, len(files)))
            held = max(1, round(len(chosen) / 5))
            drawn["val"] += [(file, name) for file in chosen[:held]]
            drawn["train"] += [(file, name) for file in chosen[held:]]
        lists = {part: folder / f"{self.name}-{size}-{seed}-{part}.csv" for part in drawn}
        for part, path in lists.items():
            runs.write_list(path, drawn[part])
        return lists


def images_of(folder):
    """The images of each class, as `tl` finds them: by their endings, to any depth, hidden ones left out."""
    found = {}
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not entry.name.startswith("."):
            files = (file for file in entry.rglob("*") if file.suffix[1:].lower() in ENDINGS and file.is_file())
            found[entry.name] = sorted(
                file for file in files if not any(part.startswith(".") for part in file.relative_to(entry).parts)
            )
    return found


def digest(file):
    return hashlib.sha256(file.read_bytes()).digest()


def published(model):
    """The row of a model's default weights: the file's name and the preprocessing."""
    for table in sorted((ROOT / "src" / "models").glob("weights*.csv")):
        with table.open(newline="") as file:
            for row in csv.DictReader(file):
                if row["model"] == model and row["default"] == "yes":
                    return row
    raise Mistake(f"no published weights are known for {model!r}: `tl models` lists the networks")


def check_python():
    needed = "import timm, torchvision, sklearn, PIL"
    if subprocess.run([sys.executable, "-c", needed], capture_output=True).returncode:
        without = f'METHODS="{" ".join(m for m in METHODS if m not in REFERENCES)}" does without'
        raise Mistake(f"the references need timm, torchvision and scikit-learn: `make oracle` installs them, and {without}")


def calibration_error(pairs, bins=15):
    """The expected calibration error of (confidence, right) pairs: the mean gap between the two over bins of confidence."""
    sums = [0.0] * bins
    for confidence, right in pairs:
        sums[min(int(confidence * bins), bins - 1)] += confidence - right
    return sum(map(abs, sums)) / len(pairs)


if __name__ == "__main__":
    sys.exit(main())
