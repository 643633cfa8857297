"""Compares every figure of `tl eval`, and of a run's report, with scikit-learn's on the same predictions.

    python tests/oracle/check_eval.py TL

Two heads on the shipped ShuffleNetV2, of 20 and of 4 shipped digits a class, are measured on all the digits to test on, and on
those of some classes alone. The probabilities are those of `predictions.csv`, which read back as the float32 that they are.
"""

import csv
import json
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
from scipy.stats import binomtest
from sklearn import metrics

ROOT = Path(__file__).resolve().parent.parent.parent
WEIGHTS = ROOT / "data" / "shufflenet_v2_x0_5-letters.safetensors"
# Absolute; measured: 7e-16.
TOLERANCE = 1e-9
CLASSES = [str(digit) for digit in range(10)]
BINS = 15

warnings.filterwarnings("ignore")
compared = 0
largest = 0.0


def same(what, found, expected):
    """Equal numbers, or null for what is not defined."""
    global compared, largest
    compared += 1
    if expected is None:
        assert found is None, f"{what}: found {found}, expected null"
        return
    assert found is not None, f"{what}: found null, expected {expected}"
    distance = float(np.max(np.abs(np.asarray(found, "f8") - np.asarray(expected, "f8"))))
    assert distance <= TOLERANCE, f"{what}: found {found}, expected {expected}"
    largest = max(largest, distance)


def digits(part, skip, count, labels=CLASSES):
    for label in labels:
        files = sorted((ROOT / "data" / "digits" / part / label).glob("*.png"))
        yield from ((path, label) for path in files[skip : skip + count])


def write_list(path, rows):
    path.write_text("path,label\n" + "".join(f"{image},{label}\n" for image, label in rows))


def run(tl, *arguments):
    command = [tl, *map(str, arguments), "--device", "cpu", "--threads", "2", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: exit code {done.returncode}\n{done.stderr}"


def predictions(path):
    with open(path, newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header[:4] == ["path", "true", "label", "confidence"] and header[5:-1] == [f"p_{name}" for name in CLASSES]
    truth = np.array([CLASSES.index(row[1]) for row in rows])
    shares = np.array([row[5:-1] for row in rows], "f4").astype("f8")
    assert [CLASSES[best] for best in shares.argmax(1)] == [row[2] for row in rows]
    return truth, shares


def wilson(right, total):
    interval = binomtest(int(right), int(total)).proportion_ci(method="wilson")
    return [interval.low, interval.high]


def bins_of(confidences, right):
    """Guo et al.'s code (gpleiss/temperature_scaling): the error, and each bin's images, confidence and accuracy."""
    error, rows = 0.0, []
    edges = np.linspace(0, 1, BINS + 1)
    for low, high in zip(edges[:-1], edges[1:]):
        inside = (confidences > low) & (confidences <= high)
        if inside.any():
            error += abs(confidences[inside].mean() - right[inside].mean()) * inside.mean()
            rows.append([inside.sum(), confidences[inside].mean(), right[inside].mean()])
    return error, rows


def check_classes(found, truth, shares, answers):
    """The rows of the classes, and the means over those that are defined."""
    rows = found["per_class"]
    assert [row["class"] for row in rows] == CLASSES
    figures = metrics.precision_recall_fscore_support(truth, answers, labels=range(10), zero_division=0)
    areas, precisions = [], []
    for place, row in enumerate(rows):
        images, taken = (truth == place).sum(), (answers == place).sum()
        right = ((truth == place) & (answers == place)).sum()
        assert (row["images"], row["answers"]) == (images, taken), row
        known = images + taken > 0
        for name, values, defined in zip(("precision", "recall", "f1"), figures, (known, images > 0, known)):
            expected = values[place] if defined else None
            same(f"{name} of {row['class']}", row[name], expected)
            same(f"{name} of {row['class']} by name", found[name][row["class"]], expected)
        same("interval of precision", row["precision_interval"], wilson(right, taken) if taken else None)
        same("interval of recall", row["recall_interval"], wilson(right, images) if images else None)
        either = wilson(right, images + taken - right) if known else None
        same("interval of F1", row["f1_interval"], either and [2 * end / (1 + end) for end in either])
        own = truth == place
        area = metrics.roc_auc_score(own, shares[:, place]) if 0 < images < len(truth) else None
        precision = metrics.average_precision_score(own, shares[:, place]) if images else None
        same(f"area of {row['class']}", row["auc"], area)
        same(f"average precision of {row['class']}", row["average_precision"], precision)
        areas.append(area)
        precisions.append(precision)
    defined = [area for area in areas if area is not None]
    same("area", found["auc"], np.mean(defined) if defined else None)
    same("average precision", found["average_precision"], np.mean([it for it in precisions if it is not None]))
    if len(defined) == 10:
        same("area, one against the rest", found["auc"], metrics.roc_auc_score(truth, shares, multi_class="ovr"))


def check(found, truth, shares):
    """The figures of a model on images."""
    answers = shares.argmax(1)
    right = answers == truth
    every = list(range(10))
    assert found["images"] == len(truth)
    same("accuracy", found["accuracy"], metrics.accuracy_score(truth, answers))
    same("its interval", found["interval"], wilson(right.sum(), len(truth)))
    same("confusion", found["confusion"], metrics.confusion_matrix(truth, answers, labels=every))
    same("balanced accuracy", found["balanced_accuracy"], metrics.balanced_accuracy_score(truth, answers))
    for kind in ("macro", "weighted"):
        means = metrics.precision_recall_fscore_support(truth, answers, average=kind, zero_division=0)
        for name, mean in zip(("precision", "recall", "f1"), means):
            same(f"{kind} {name}", found[f"{kind}_{name}"], mean)
    same("top-5", found["top5"], metrics.top_k_accuracy_score(truth, shares, k=5, labels=every))
    same("log-loss", found["log_loss"], metrics.log_loss(truth, shares, labels=every))
    brier = metrics.brier_score_loss(np.array(CLASSES)[truth], shares, labels=CLASSES, scale_by_half=False)
    same("Brier score", found["brier"], brier)
    check_classes(found, truth, shares, answers)

    confidences = shares.max(1)
    error, rows = bins_of(confidences, right)
    same("calibration error", found["ece"], error)
    filled = [[row["images"], row["confidence"], row["accuracy"]] for row in found["reliability"] if row["images"]]
    same("bins", filled, rows)
    for point in found["coverage"]:
        answered = confidences >= np.float32(point["threshold"]).astype("f8")
        same("share answered", point["share"], answered.mean())
        same("accuracy of those", point["accuracy"], right[answered].mean())
    assert found["coverage"][-1]["share"] == 1 and len(found["coverage"]) <= 200


def check_pair(found, first, second):
    """Both right and wrong answers on the same images."""
    only_first, only_second = (first & ~second).sum(), (second & ~first).sum()
    assert (found["only_first"], found["only_second"]) == (only_first, only_second), found
    same("difference", found["difference"], second.mean() - first.mean())
    same("McNemar's p", found["p"], binomtest(int(only_second), int(only_first + only_second)).pvalue)
    # Bonett and Price 2012, formula 3.
    n = len(first) + 2
    won, lost = (only_second + 1) / n, (only_first + 1) / n
    half = 1.959963984540054 * np.sqrt((won + lost - (won - lost) ** 2) / n)
    same("its interval", found["interval"], [won - lost - half, won - lost + half])


def train(tl, folder, name, images):
    write_list(folder / f"{name}.csv", digits("train", 0, images))
    write_list(folder / "val.csv", digits("train", 60, 4))
    recipe = folder / f"{name}.yaml"
    recipe.write_text(
        f"model: shufflenet_v2_x0_5\nweights: {WEIGHTS}\ndata: {{ train: {name}.csv, val: val.csv, test: test.csv }}\n"
        "strategy: { method: linear }\n"
    )
    run(tl, "finetune", recipe, "--out", folder / name)


def main(tl):
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_list(folder / "test.csv", digits("test", 0, 1000))
        write_list(folder / "some.csv", digits("test", 0, 20, CLASSES[:7]))
        write_list(folder / "one.csv", digits("test", 0, 20, CLASSES[3:4]))
        for name, images in (("many", 20), ("few", 4)):
            train(tl, folder, name, images)

        tests = folder / "tests"
        run(tl, "eval", folder / "many", folder / "few", folder / "test.csv", "--out", tests, "--probabilities")
        report = json.loads((tests / "report.json").read_text())
        right = []
        for model, name in zip(report["models"], ("predictions.csv", "predictions-2.csv")):
            truth, shares = predictions(tests / name)
            check(model, truth, shares)
            right.append(shares.argmax(1) == truth)
        check_pair(report["compared"][0], *right)
        # A run's own report: the same code on the same images, whose features were computed in other batches.
        own = json.loads((folder / "many" / "report.json").read_text())["test"]
        for name in ("accuracy", "macro_f1", "balanced_accuracy", "auc", "average_precision", "log_loss", "brier", "ece"):
            assert abs(own[name] - report["models"][0][name]) < 1e-4, (name, own[name], report["models"][0][name])

        for part in ("some", "one"):
            out = folder / f"{part}-out"
            run(tl, "eval", folder / "few", folder / f"{part}.csv", "--out", out, "--probabilities")
            report = json.loads((out / "report.json").read_text())
            check(report["models"][0], *predictions(out / "predictions.csv"))
    print(f"{compared} figures agree with scikit-learn's, the farthest by {largest:.1e}")


if __name__ == "__main__":
    main(sys.argv[1])
