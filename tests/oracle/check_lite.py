"""Compares EfficientNet-Lite with timm's `tf_efficientnet_lite*`: the published table, real weights, and what `tl` writes.

    python tests/oracle/check_lite.py TL [FOLDER...]

src/models/weights_elsewhere.csv has to say what timm says of sizes and parameters. For each network whose weights are in
PyTorch's cache folder (`make weights MODEL=efficientnet_lite0`), `tl` and timm see the shipped photographs, and the
images of any FOLDER: equal logits, and the same first class of each image. What `tl finetune` leaves of them has to load
into timm with `strict=True`. Where a FOLDER's file names end in `_CLASS.jpg`, the share that is right is printed.
"""

import csv
import math
import subprocess
import sys
import tempfile
from pathlib import Path

from check_extract import error  # before PyTorch: it says how threads wait

import numpy as np
import timm
import torch
from PIL import Image, ImageOps
from safetensors.torch import load_file
from torchvision.transforms import InterpolationMode
from torchvision.transforms._presets import ImageClassification

from models import TIMM

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "src/models/weights_elsewhere.csv"
# Of logits. Folded networks are held to 1e-4; with the published weights they are nearer.
TOLERANCE, FOLDED_TOLERANCE = 1e-5, 1e-4
THREADS = "2"
# TensorFlow takes 127 from a byte and divides by 128.
MEAN, DEVIATION = 127 / 255, 128 / 255


def check_row(row):
    name = row["model"]
    config = timm.get_pretrained_cfg(TIMM[name])
    side = config.input_size[-1]
    model = timm.create_model(TIMM[name])
    assert int(row["parameters"]) == sum(p.numel() for p in model.parameters()), name
    sizes = (int(row["resize"]), int(row["crop"]), row["interpolation"])
    assert sizes == (math.floor(side / config.crop_pct), side, config.interpolation), (name, sizes)
    for column, exact in (("mean", MEAN), ("std", DEVIATION)):
        assert all(abs(float(value) - exact) < 5e-4 for value in row[column].split()), (name, column)
    if row["source"].startswith("https:"):
        assert config.url == row["source"] + row["file"], (name, config.url)


def preset(row):
    mean, std = ([float(value) for value in row[column].split()] for column in ("mean", "std"))
    return ImageClassification(
        crop_size=int(row["crop"]), resize_size=int(row["resize"]), mean=mean, std=std,
        interpolation=InterpolationMode(row["interpolation"]),
    )


def timms(row, path):
    """timm's network with the file's values, which stand there in the order of timm's own."""
    model = timm.create_model(TIMM[row["model"]])
    values = torch.load(path, weights_only=True).values()
    model.load_state_dict(dict(zip(model.state_dict(), values, strict=True)), strict=True)
    return model.eval()


def logits(model, row, paths):
    transform = preset(row)
    rows = []
    for path in paths:
        image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
        with torch.no_grad():
            rows.append(model(transform(image)[None])[0])
    return torch.stack(rows).numpy()


def run(tl, *arguments):
    command = [tl, *map(str, arguments), "--device", "cpu", "--threads", THREADS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: exit code {done.returncode}\n{done.stderr}"


def check_network(tl, scratch, row, path, folders):
    name, out = row["model"], scratch / "x.npy"
    classes = (ROOT / "data/imagenet_classes.txt").read_text(encoding="utf-8").splitlines()
    model = timms(row, path)
    for folder in (ROOT / "data/photos", *folders):
        run(tl, "extract", "--model", name, "--stage", "logits", "--out", out, folder)
        with open(f"{out}.index.csv", newline="", encoding="utf-8") as file:
            paths = [Path(entry["path"]) for entry in csv.DictReader(file)]
        found, expected = np.load(out), logits(model, row, paths)
        relative = error(found, expected)
        assert relative <= TOLERANCE, f"{name}, {folder}: relative error {relative:.2e}"
        same = int((found.argmax(1) == expected.argmax(1)).sum())
        assert same == len(paths), f"{name}, {folder}: {same} of {len(paths)} predictions are timm's"
        # `n01514668_cock.jpg`; a class of two words has a `_` between them.
        truth = [path.stem.partition("_")[2].replace("_", " ").lower() for path in paths]
        known = [label in map(str.lower, classes) for label in truth]
        right = sum(classes[row.argmax()].lower() == label for row, label in zip(found, truth))
        share = f", {right} of {sum(known)} right ({right / sum(known):.1%})" if any(known) else ""
        print(f"  {name}, {len(paths)} images of {folder.name}: logits to {relative:.1e}, all predictions timm's{share}")


def check_written(tl, scratch, row):
    """A few steps of fine-tuning: the file loads into timm, and timm computes with it what `tl` does."""
    name = row["model"]
    digits = [(image, label) for label in "0123" for image in sorted((ROOT / "data/digits/train" / label).glob("*.png"))[:6]]
    with open(scratch / "data.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label"), *digits])
    (scratch / "recipe.yaml").write_text(
        f"model: {name}\ndata: {{train: data.csv, val: data.csv}}\nstrategy: {{method: full}}\n"
        "preprocess: {resize_size: 96, crop_size: 96}\ntrain: {epochs: 1, batch_size: 8, lr: 0.001}\n"
    )
    run(tl, "finetune", scratch / "recipe.yaml", "--out", scratch / "run", "--overwrite")
    model = timm.create_model(TIMM[name], num_classes=4).eval()
    model.load_state_dict(load_file(scratch / "run/model.safetensors"), strict=True)
    out = scratch / "x.npy"
    paths = sorted((ROOT / "data/samples").glob("*.png"))
    run(tl, "extract", "--model", scratch / "run", "--stage", "logits", "--out", out, *paths)
    small = row | {"resize": "96", "crop": "96"}
    relative = error(np.load(out), logits(model, small, paths))
    assert relative <= FOLDED_TOLERANCE, f"{name}, fine-tuned: relative error {relative:.2e}"
    print(f"  {name}, fine-tuned, in timm: logits to {relative:.1e}")


def main(tl, *folders):
    torch.set_num_threads(int(THREADS))
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    with open(TABLE, newline="", encoding="utf-8") as file:
        rows = [*csv.DictReader(file)]
    assert [row["model"] for row in rows] == [*TIMM]
    with tempfile.TemporaryDirectory() as scratch:
        for row in rows:
            check_row(row)
            path = cache / row["file"]
            if not path.is_file():
                print(f"  {row['model']}: left out, as {path} is not there (`make weights MODEL={row['model']}`)")
                continue
            check_network(tl, Path(scratch), row, path, [Path(folder) for folder in folders])
            check_written(tl, Path(scratch), row)


if __name__ == "__main__":
    main(*sys.argv[1:])
