"""Compares what `auto` keeps with PyTorch and scikit-learn: a head on features, and the mixture of two models.

    python tests/oracle/check_little.py TL

The shipped digits and the shipped ShuffleNetV2. Head: `LogisticRegression` on centred features over one number, so that the mean
of their squared lengths is 1, with the C of the report; its logits differ by one factor up to 1, which held-out images chose. Two
models: the files of the run folder, each loaded by itself.
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


def check_head(tl, folder, train, test):
    """The head on the top features gives scikit-learn's logits, times one number."""
    report = finetune(tl, folder, "head", recipe(folder, {"method": "linear"}, 0.25))
    tensors = load_file(folder / "head" / "model.safetensors")
    model, y = network(load_file(WEIGHTS)), np.array([label for _, label in train])
    with torch.no_grad():
        x, z = (read(model, images(rows, 0.25))[-1].double().numpy() for rows in (train, test))
    mean = x.mean(0)
    scale = np.sqrt(((x - mean) ** 2).sum(1).mean())
    fit = LogisticRegression(C=report["linear"]["c"], tol=1e-9, max_iter=20_000).fit((x - mean) / scale, y)
    expected = ((z - mean) / scale) @ fit.coef_.T + fit.intercept_
    found = z @ tensors["fc.weight"].double().numpy().T + tensors["fc.bias"].double().numpy()
    expected, found = (logits - logits.mean(1, keepdims=True) for logits in (expected, found))
    factor = (found * expected).sum() / (expected**2).sum()
    if not 0 < factor < 1 + 1e-4:
        raise SystemExit(f"the logits are scikit-learn's times {factor}")
    return np.abs(found - factor * expected).max() / np.abs(found).max()


def check_two(tl, folder, test):
    """`predict` with the run folder weighs the two models as the metadata says."""
    strategy = {"size": "little", "similarity": "different", "read": ["conv1"]}
    train = {"epochs": 8, "batch_size": 16, "lr": 0.02, "linear_head_first": False}
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
    p, q = probabilities.values()
    share = card["beside"]["share"]
    expected = ((1 - share) * p + share * q).numpy()
    paths = [str(path) for path, _ in test]
    command = [tl, "predict", "--raw", "--model", out, *paths, "--top-k", "10", "--out", folder / "p.jsonl", "--quiet"]
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
        found = {"head": check_head(tl, folder, train, test)}
        write_list(folder / "train.csv", list(digits("train", 0, 8)))
        found["two models"] = check_two(tl, folder, test)
    for what, worst in found.items():
        print(f"{what}: {worst:.1e}")
    return 0 if max(found.values()) < TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
