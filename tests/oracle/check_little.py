"""Compares what `auto` does with little data with PyTorch and scikit-learn: BatchNorm's statistics of the training images, the
mean of the heads of all stages, and the average of two models.

    python tests/oracle/check_little.py TL

The shipped digits and the shipped ShuffleNetV2. Statistics: torchvision's network in training mode with momentum 1 on all
training images at once. Heads: `LogisticRegression` behind a `StandardScaler` on the features of each stage, with the C of the
report, their logits averaged by the shares of the report. Two models: the files of the run folder, each loaded by itself.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import numpy as np
import torch
import torchvision
import torchvision.transforms as T
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

ROOT = Path(__file__).resolve().parent.parent.parent
WEIGHTS = ROOT / "data" / "shufflenet_v2_x0_5-letters.safetensors"
STAGES = ("conv1", "stage2", "stage3", "stage4", "conv5")
# Relative to the largest number of a tensor; measured: 4e-6. Of probabilities, absolute: 2e-6.
TOLERANCE = 5e-5


def digits(part, skip, count):
    for label in range(10):
        files = sorted((ROOT / "data" / "digits" / part / str(label)).glob("*.png"))
        yield from ((path, label) for path in files[skip : skip + count])


def write_list(path, rows):
    path.write_text("path,label\n" + "".join(f"{image},{label}\n" for image, label in rows))


def images(rows, std):
    transform = T.Compose([T.Resize(64), T.CenterCrop(64), T.ToTensor(), T.Normalize([0.485, 0.456, 0.406], [std] * 3)])
    return torch.stack([transform(Image.open(path).convert("RGB")) for path, _ in rows])


def network(tensors):
    """torchvision's network with these tensors: a head that reads several stages stays outside."""
    classes = len(tensors["fc.weight"]) if "fc.weight" in tensors else 1
    model = torchvision.models.shufflenet_v2_x0_5(num_classes=classes)
    body = {key: value for key, value in tensors.items() if not key.startswith("tl_head.")}
    model.load_state_dict({**model.state_dict(), **body})
    return model.eval()


def read(model, x, upto=len(STAGES)):
    """The pooled features of the first stages."""
    vectors = []
    for name in STAGES[:upto]:
        x = getattr(model, name)(x)
        x = model.maxpool(x) if name == "conv1" else x
        vectors.append(x.mean((2, 3)))
    return vectors


def finetune(tl, folder, out, recipe):
    (folder / f"{out}.json").write_text(json.dumps(recipe))
    subprocess.run([tl, "finetune", folder / f"{out}.json", "--out", folder / out, "--quiet", "--threads", "2"], check=True)
    return json.loads((folder / out / "report.json").read_text())


def recipe(folder, strategy, std, train=None):
    return {
        "model": "shufflenet_v2_x0_5",
        "weights": str(WEIGHTS),
        "preprocess": {"resize_size": 64, "crop_size": 64, "std": [std] * 3},
        "data": {part: str(folder / f"{part}.csv") for part in ("train", "val", "test")},
        "strategy": strategy,
        **({"train": train} if train else {}),
        "augment": {"flip": 0},
    }


def check_statistics(tl, folder, train):
    """The running statistics of the model are those of the training images; no weight has moved."""
    strategy = {"method": "stages", "read": ["features"], "adapt": True}
    finetune(tl, folder, "adapted", recipe(folder, strategy, 8.0))
    found, source = load_file(folder / "adapted" / "model.safetensors"), load_file(WEIGHTS)
    model = network(source)
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    model.train()
    with torch.no_grad():
        model(images(train, 8.0))
    worst = 0.0
    for key, value in model.state_dict().items():
        if key.endswith(("running_mean", "running_var")):
            worst = max(worst, ((found[key] - value).abs().max() / value.abs().max()).item())
        elif not key.startswith("fc.") and not torch.equal(found[key], source[key]):
            raise SystemExit(f"{key} has moved")
    return worst


def check_mean(tl, folder, train, test):
    """The head on all stages gives the mean of scikit-learn's heads."""
    report = finetune(tl, folder, "mean", recipe(folder, {"method": "stages", "average": True}, 0.25))
    path = folder / "mean" / "model.safetensors"
    tensors, model = load_file(path), network(load_file(WEIGHTS))
    y = np.array([label for _, label in train])
    with torch.no_grad():
        x, z = ([vectors.double().numpy() for vectors in read(model, images(rows, 0.25))] for rows in (train, test))
    expected = np.zeros((len(test), 10))
    for row, places in zip(report["stages"], [[0], [1], [2], [3], [4], [0, 1, 2, 3, 4]]):
        learnt, asked = (np.concatenate([vectors[place] for place in places], 1) for vectors in (x, z))
        scaler = StandardScaler().fit(learnt)
        fit = LogisticRegression(C=row["c"], tol=1e-9, max_iter=20_000).fit(scaler.transform(learnt), y)
        expected += row["share"] * (scaler.transform(asked) @ fit.coef_.T + fit.intercept_)
    found = np.concatenate(z, 1) @ tensors["tl_head.weight"].double().numpy().T + tensors["tl_head.bias"].double().numpy()
    expected, found = (logits - logits.mean(1, keepdims=True) for logits in (expected, found))
    return np.abs(found - expected).max() / np.abs(expected).max()


def check_two(tl, folder, test):
    """`predict` with the run folder weighs the two models as the metadata says."""
    strategy = {"size": "little", "similarity": "different", "adapt": False, "read": ["conv1"]}
    train = {"epochs": 8, "batch_size": 16, "lr": 0.02, "head_lr": 0.05}
    report = finetune(tl, folder, "two", recipe(folder, strategy, 0.25, train))
    out = folder / "two"
    with safe_open(out / "model.safetensors", "pt") as file:
        card = json.loads(file.metadata()["tl"])
    probabilities = {}
    for name in ("model.safetensors", card["beside"]["file"]):
        tensors = load_file(out / name)
        model = network(tensors)
        with torch.no_grad():
            if "fc.weight" in tensors:
                logits = model(images(test, 0.25))
            else:
                head = torch.cat(read(model, images(test, 0.25), 1), 1)
                logits = head @ tensors["tl_head.weight"].T + tensors["tl_head.bias"]
        probabilities[name] = torch.softmax(logits.double(), 1)
    p, q = ((probability + 0.01 / 10).log() for probability in probabilities.values())
    share = card["beside"]["share"]
    expected = torch.softmax((1 - share) * p + share * q, 1).numpy()
    paths = [str(path) for path, _ in test]
    command = [tl, "predict", "--model", out, *paths, "--top-k", "10", "--out", folder / "p.jsonl", "--quiet"]
    subprocess.run(command, check=True)
    rows = {row["path"]: row for row in map(json.loads, (folder / "p.jsonl").read_text().splitlines())}
    worst, right = 0.0, 0
    for path, (_, label), values in zip(paths, test, expected):
        row = rows[path]
        right += row["label"] == str(label)
        for place in range(1, 11):
            name, value = (row[key if place == 1 else f"{key}_{place}"] for key in ("label", "confidence"))
            worst = max(worst, abs(values[card["classes"].index(name)] - value))
    if right / len(test) != report["test"]["accuracy"]:
        raise SystemExit(f"the report says {report['test']['accuracy']}, and {right} of {len(test)} are right")
    return worst


def main() -> int:
    tl = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # All in one batch, so that their order does not matter.
        train, test = list(digits("train", 0, 6)), list(digits("test", 0, 20))
        write_list(folder / "train.csv", train)
        write_list(folder / "val.csv", list(digits("train", 20, 4)))
        write_list(folder / "test.csv", test)
        found = {
            "statistics": check_statistics(tl, folder, train),
            "mean of heads": check_mean(tl, folder, train, test),
        }
        write_list(folder / "train.csv", list(digits("train", 0, 8)))
        found["two models"] = check_two(tl, folder, test)
    for what, worst in found.items():
        print(f"{what}: {worst:.1e}")
    return 0 if max(found.values()) < TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
