"""Loads what `tl finetune` leaves into torchvision, and compares the linear head with scikit-learn's.

    python tests/oracle/check_artifact.py TL

One model of each block kind, and the smallest of each family of torchvision's, is trained for a few steps on a few of
the shipped digits. Its `model.safetensors` has to load into the torchvision builder with `strict=True`, to give the logits that `tl extract` gives and the labels and
confidences that `tl predict --raw` gives; the frozen part has to be the weights that it came from. The linear method has to
find what `LogisticRegression` finds at the same C on the same features, centred and over one number for each stage, times one
number up to 1 that held-out images chose; so has `stages` without averaging, on the features of the stages that it chose.
"""

import csv
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

from check_extract import error, random_model  # before PyTorch: it says how threads wait

import numpy as np
import torch
import torchvision
from PIL import Image, ImageOps
from safetensors import safe_open
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from torchvision.transforms import InterpolationMode
from torchvision.transforms._presets import ImageClassification

TOLERANCE = 1e-5
# Attention sums in another order from one version of a library to the next.
TRANSFORMERS, TRANSFORMER_TOLERANCE = ("swin", "vit", "maxvit"), 1e-4
THREADS = "2"
ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "data/digits"
LETTERS = ROOT / "data/shufflenet_v2_x0_5-letters.safetensors"


def digits(part, classes, each):
    return [
        (path, str(digit))
        for digit in range(classes)
        for path in sorted((DIGITS / part / str(digit)).glob("*.png"))[:each]
    ]


def write_list(path, samples):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label"), *samples])


class Bench:
    def __init__(self, tl, folder):
        self.tl, self.folder = tl, folder
        self.images = [str(path) for path, _ in digits("test", 10, 3)]
        self.images += [str(ROOT / "data/photos/china.jpg"), str(ROOT / "data/photos/flower.jpg")]
        self.images.sort(key=lambda path: [part.encode() for part in Path(path).parts])

    def run(self, *arguments):
        command = [self.tl, *map(str, arguments), "--device", "cpu", "--threads", THREADS, "--quiet"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: exit code {done.returncode}\n{done.stderr}"

    def finetune(self, name, recipe):
        """The run folder of a recipe, which JSON is as well."""
        path, run = self.folder / f"{name}.yaml", self.folder / name
        path.write_text(json.dumps(recipe))
        self.run("finetune", path, "--out", run)
        return run

    def extract(self, model, images, stage):
        out = self.folder / "x.npy"
        self.run("extract", "--model", model, "--stage", stage, "--out", out, *images)
        with open(f"{out}.index.csv", newline="", encoding="utf-8") as file:
            assert [row["path"] for row in csv.DictReader(file)] == list(map(str, images))
        return np.load(out)

    def predict(self, model, images, top_k):
        out = self.folder / "p.csv"
        self.run("predict", "--raw", "--model", model, "--top-k", top_k, "--out", out, *images)
        with open(out, newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))


def metadata_of(path):
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert list(metadata) == ["tl"], list(metadata)
    tl = json.loads(metadata["tl"])
    assert json.dumps(tl, sort_keys=True, separators=(",", ":"), ensure_ascii=False) == metadata["tl"], "keys are not sorted"
    assert str(ROOT) not in metadata["tl"] and "out" not in tl["recipe"], metadata["tl"]
    return tl


def transform_of(tl):
    how = tl["preprocessing"]
    return ImageClassification(
        crop_size=how["crop_size"], resize_size=how["resize_size"], mean=how["mean"], std=how["std"],
        interpolation=InterpolationMode(how["interpolation"]),
    )


def in_torchvision(path, tl):
    name = tl["architecture"]
    kwargs = {}
    if name in ("googlenet", "inception_v3"):
        kwargs = {"aux_logits": False, "init_weights": False, "transform_input": tl["transform_input"]}
    if name.startswith("vit"):
        kwargs = {"image_size": tl["preprocessing"]["crop_size"]}
    model = torchvision.models.get_model(name, weights=None, num_classes=len(tl["classes"]), **kwargs)
    state = load_file(path)
    given = OrderedDict(state)
    if name.startswith("mnasnet"):  # its code asks for the version of a state dict, which safetensors has no place for
        given._metadata = {"": {"version": 2}}
    model.load_state_dict(given, strict=True)
    kinds = {key: value.dtype for key, value in model.state_dict().items()}
    assert {key: value.dtype for key, value in state.items()} == kinds
    return model.eval()


def check_run(bench, name, run, classes):
    """The model file in torchvision, against `extract` and `predict` from the run folder and from the file."""
    path = run / "model.safetensors"
    tl = metadata_of(path)
    assert tl["classes"] == classes, tl["classes"]
    model, transform = in_torchvision(path, tl), transform_of(tl)
    pictures = [ImageOps.exif_transpose(Image.open(image)).convert("RGB") for image in bench.images]
    with torch.no_grad():
        logits = model(torch.stack([transform(picture) for picture in pictures]))

    relative = error(bench.extract(run, bench.images, "logits"), logits.numpy())
    tolerance = TRANSFORMER_TOLERANCE if name.startswith(TRANSFORMERS) else TOLERANCE
    assert relative <= tolerance, f"{name}: relative error {relative:.2e}"

    top_k = min(3, len(classes))
    expected = logits.double().softmax(1)
    order = expected.argsort(1, descending=True)
    worst = 0.0
    for given in (run, path):
        rows = bench.predict(given, bench.images, top_k)
        assert [row["path"] for row in rows] == bench.images and not any(row["error"] for row in rows)
        for row, confidences, ranks in zip(rows, expected, order):
            for rank in range(top_k):
                suffix = f"_{rank + 1}" if rank else ""
                label, confidence = row[f"label{suffix}"], float(row[f"confidence{suffix}"])
                assert label == classes[ranks[rank]] or np.isclose(
                    confidences[classes.index(label)], confidences[ranks[rank]], rtol=1e-4
                ), (row, confidences)
                worst = max(worst, abs(confidence - float(confidences[classes.index(label)])))
    assert worst <= 1e-5, f"{name}: a confidence is off by {worst:.2e}"
    print(f"  {name:<34} logits {relative:.1e}, confidences {worst:.1e}")
    return tl


# Model, method, side of the images, epochs. GoogLeNet and Inception train with their auxiliary classifiers.
CASES = [
    ("resnet18", "full", 64, 2), ("resnet50", "partial", 64, 2), ("resnext50_32x4d", "full", 64, 2),
    ("wide_resnet50_2", "partial", 64, 2), ("alexnet", "full", 63, 2), ("shufflenet_v2_x0_5", "partial", 64, 2),
    ("shufflenet_v2_x1_0", "full", 64, 2), ("convnext_tiny", "full", 64, 1), ("densenet121", "full", 64, 1),
    ("efficientnet_b0", "full", 64, 1), ("efficientnet_v2_s", "full", 64, 1), ("googlenet", "full", 64, 1),
    ("inception_v3", "full", 299, 1), ("maxvit_t", "full", 224, 1), ("mnasnet0_5", "full", 64, 1),
    ("mobilenet_v2", "full", 64, 1), ("mobilenet_v3_small", "full", 64, 1), ("regnet_y_400mf", "full", 64, 1),
    ("squeezenet1_1", "full", 64, 1), ("swin_t", "full", 64, 1), ("swin_v2_t", "full", 64, 1),
    ("vgg11", "full", 64, 1), ("vit_b_32", "full", 224, 1),
]


def check_finetuned(bench):
    train, val = bench.folder / "train.csv", bench.folder / "val.csv"
    write_list(train, digits("train", 4, 8))
    write_list(val, digits("test", 4, 3))
    for model, method, size, epochs in CASES:
        weights = bench.folder / "start.pth"
        torch.save(random_model(model, seed=5).state_dict(), weights)
        run = bench.finetune(f"{model}-{method}", {
            "model": model, "weights": "start.pth", "preprocess": {"crop_size": size},
            "data": {"train": "train.csv", "val": "val.csv"}, "strategy": {"method": method},
            "train": {"epochs": epochs, "batch_size": 8, "lr": 0.001, "batch_norm": "train"},
        })
        tl = check_run(bench, f"{model}, {method}", run, ["0", "1", "2", "3"])
        assert tl["preprocessing"]["crop_size"] == size
        check_frozen(run, weights, (run / "plan.yaml").read_text())


def check_frozen(run, weights, plan):
    """What the plan calls frozen has not moved; something else has."""
    before, after = torch.load(weights), load_file(run / "model.safetensors")
    frozen = [line.strip("- ") for line in plan.split("frozen_stages:")[1].split("trained_stages:")[0].splitlines()]
    frozen = tuple(f"{stage}." for stage in frozen if stage and stage != "[]")
    # The stem's stage holds its normalisation too, which torchvision keeps beside it.
    if "conv1." in frozen:
        frozen += ("bn1.",)
    same = {key for key in after if torch.equal(before[key], after[key])}
    held = {key for key in after if key.startswith(frozen)} if frozen else set()
    assert held <= same, sorted(held - same)[:5]
    # Not those of normalisations: beside 1 a step behind ConvNeXt's scale of 1e-6 is nothing in float32.
    weights = {key for key in after if key.endswith("weight") and after[key].dim() > 1} - held
    assert not weights & same, sorted(weights & same)[:5]


class Part(NamedTuple):
    """Digits to fit a head on, and others to measure it on."""
    classes: int
    train: list
    seen: list

    @classmethod
    def of(cls, classes, each, measured=20):
        return cls(classes, digits("train", classes, each), digits("test", classes, measured))


def fitted(bench, name, part, recipe):
    """The run of a recipe for a head on frozen features."""
    write_list(bench.folder / "train.csv", part.train)
    write_list(bench.folder / "val.csv", part.seen)
    name = name.replace(", ", "-").replace(" ", "-")
    return bench.finetune(name, {"data": {"train": "train.csv", "val": "val.csv"}, **recipe})


def check_head(bench, name, run, part, key, readings):
    """The head at `key` of the model file is scikit-learn's, fitted at the run's C to the features that `tl extract`
    finds at `readings` (pairs of a model and a stage); what `tl predict` says of other images is what that one says.
    """
    names, paths = [str(digit) for digit in range(part.classes)], [str(path) for path, _ in part.seen]

    def blocks(images):
        return [bench.extract(model, images, stage).astype("f8") for model, stage in readings]

    state = load_file(run / "model.safetensors")
    weight = state[f"{key}.weight"].flatten(1).double().numpy()
    bias = state[f"{key}.bias"].double().numpy() if f"{key}.bias" in state else None
    report = json.loads((run / "report.json").read_text())
    c = report["linear"]["c"]
    learnt = blocks([path for path, _ in part.train])
    width = sum(block.shape[1] for block in learnt)
    # Without biases, means that were subtracted could not be brought back.
    mean = np.concatenate([block.mean(0) if bias is not None else 0 * block[0] for block in learnt])
    centred = [block - block.mean(0) if bias is not None else block for block in learnt]
    scale = np.concatenate([np.full(block.shape[1], np.sqrt((block**2).mean() * width)) for block in centred])
    x = np.concatenate(centred, axis=1) / scale
    y = np.array([label for _, label in part.train])
    with warnings.catch_warnings():
        # At this tolerance the solver ends where rounding leaves nothing to gain, and says so.
        warnings.simplefilter("ignore")
        fit = LogisticRegression(C=c, fit_intercept=bias is not None, solver="newton-cg", tol=1e-12, max_iter=100_000)
        fit.fit(x, y)
    assert list(fit.classes_) == names

    bias = bias + weight @ mean if bias is not None else np.zeros(part.classes)
    weight = weight * scale
    if part.classes == 2:  # scikit-learn has one row, for the difference of the logits
        weight, bias = weight[1:] - weight[:1], bias[1:] - bias[:1]
    factor = (weight * fit.coef_).sum() / (fit.coef_**2).sum()
    assert 0 < factor < 1.0001, f"{name}: the head is scikit-learn's times {factor}"
    fit.coef_, fit.intercept_ = factor * fit.coef_, factor * fit.intercept_
    if part.classes > 2:  # what is common to all classes changes no probability: SqueezeNet's biases are raised above its ReLU
        bias = bias - bias.mean() + fit.intercept_.mean()
    worst = max(np.abs(weight - fit.coef_).max(), np.abs(bias - fit.intercept_).max())
    largest = np.abs(fit.coef_).max()
    assert worst <= 1e-3 * largest, f"{name}: a coefficient is off by {worst:.2e} (the largest is {largest:.2e})"

    unseen = (np.concatenate(blocks(paths), axis=1) - mean) / scale
    rows = bench.predict(run, paths, part.classes)
    assert [row["label"] for row in rows] == list(fit.predict(unseen)), name
    confidences = np.sort(fit.predict_proba(unseen), axis=1)[:, ::-1]
    columns = ["confidence" + (f"_{k + 1}" if k else "") for k in range(part.classes)]
    gap = np.abs(np.array([[float(row[column]) for column in columns] for row in rows]) - confidences).max()
    assert gap <= 1e-3, f"{name}: a confidence is off by {gap:.2e}"
    accuracy = np.mean([row["label"] == label for row, (_, label) in zip(rows, part.seen)])
    assert abs(accuracy - report["best"]["val_accuracy"]) < 1e-6, (accuracy, report["best"])
    print(
        f"  {name:<34} C {c:.3g}: coefficients {worst:.1e} of {largest:.2g}, confidences {gap:.1e}, "
        f"accuracy {accuracy:.3f}"
    )


def check_linear(bench, classes, each, extra):
    part, name = Part.of(classes, each), f"linear, {classes} classes{', C given' if extra else ''}"
    run = fitted(bench, name, part, {
        "model": "shufflenet_v2_x0_5", "weights": str(LETTERS), "strategy": {"method": "linear"}, "train": extra,
    })
    check_head(bench, name, run, part, "fc", [(run, "features")])


def check_other_heads(bench):
    """Heads that are no linear layer with biases: MaxViT's has none, SqueezeNet's is a convolution."""
    for model, key, size, part in [
        ("maxvit_t", "classifier.5", 224, Part.of(3, 6, 4)), ("squeezenet1_1", "classifier.1", 64, Part.of(4, 10, 10)),
    ]:
        run = fitted(bench, f"linear, {model}", part, {
            "model": model, "weights": "none", "preprocess": {"crop_size": size},
            "strategy": {"method": "linear"}, "train": {"c": 1},
        })
        assert (f"{key}.bias" in load_file(run / "model.safetensors")) == (model != "maxvit_t")
        check_head(bench, f"linear, {model}", run, part, key, [(run, "features")])


def check_stages(bench, read, extra):
    """The head on several stages, against the features of each that the shipped network itself gives."""
    part, name = Part.of(10, 10), f"stages, {', '.join(read) or 'by default'}"
    run = fitted(bench, name, part, {
        "model": "shufflenet_v2_x0_5", "weights": str(LETTERS),
        "strategy": {"method": "stages", "average": False, **({"read": read} if read else {})}, "train": extra,
    })
    chosen = metadata_of(run / "model.safetensors")["reads"]
    rows = json.loads((run / "report.json").read_text())["stages"]
    assert [row["stages"] for row in rows if row["chosen"]] == [chosen], rows
    check_head(bench, f"{name}: {len(chosen)} chosen", run, part, "tl_head", [(LETTERS, stage) for stage in chosen])
    return len(chosen)


def main(tl):
    tl = str(Path(tl).resolve())
    os.chdir(ROOT)
    torch.set_num_threads(int(THREADS))
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(tl, Path(scratch))
        check_finetuned(bench)
        check_linear(bench, 10, 10, {})
        check_linear(bench, 10, 30, {"c": 1})
        check_linear(bench, 3, 20, {})
        check_linear(bench, 2, 20, {})
        check_other_heads(bench)
        joined = [
            check_stages(bench, [], {}),
            check_stages(bench, ["stage3", "features"], {"c": 1}),
        ]
        assert max(joined) > 1, "no head on several stages was compared"
    print("torchvision and scikit-learn agree with what `tl finetune` leaves")


if __name__ == "__main__":
    main(sys.argv[1])
