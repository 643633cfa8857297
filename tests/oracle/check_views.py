"""Compares `tl predict` with several crops, scales and models with torchvision: `Resize`, `TenCrop`, the mean softmax.

    python tests/oracle/check_views.py TL

Random weights of torchvision networks, with BatchNorm's statistics, as files that `tl` could have written, predict a
folder of images of mixed kinds and sizes. All classes are asked for, so that whole distributions are compared, and not
only their first.
"""

import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import numpy as np
import torch
import torchvision.transforms as T
import torchvision.transforms.functional as F
from PIL import Image, ImageOps
from safetensors.torch import save_file
from torchvision.transforms._presets import ImageClassification

from check_extract import ROOT, THREADS, enum, listed, make_images, random_model

# Of probabilities, absolute; measured: 5e-7.
TOLERANCE = 2e-6
CLASSES = [f"class {number:04}" for number in range(1000)]


def views(image, preset, crops, scales):
    """The normalised crops of an image, as torchvision's transforms make them."""
    crop = T.TenCrop(preset.crop_size) if crops == 10 else T.Lambda(lambda image: [F.center_crop(image, preset.crop_size)])
    for scale in scales or preset.resize_size:
        resized = F.resize(image, [scale], interpolation=preset.interpolation, antialias=True)
        for cut in crop(resized):
            yield F.normalize(F.to_tensor(cut), preset.mean, preset.std)


def expected(members, names, crops, scales):
    """The mean softmax for each image, as float64 `[N, 1000]`; `members` are models with their presets."""
    rows = []
    for name, _ in names:
        image = ImageOps.exif_transpose(Image.open(name)).convert("RGB")
        with torch.no_grad():
            means = [
                torch.softmax(model(torch.stack([*views(image, preset, crops, scales)])), 1).double().mean(0)
                for model, preset in members
            ]
        rows.append(torch.stack(means).mean(0).numpy())
    return np.stack(rows)


def predicted(tl, folder, images, arguments):
    """Paths, and the same from `tl`."""
    out = folder / "p.csv"
    command = [tl, "predict", "--device", "cpu", "--threads", THREADS, "--top-k", str(len(CLASSES)), "--out", str(out)]
    command += [*map(str, arguments), str(images)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: exit code {done.returncode}\n{done.stderr}"
    with open(out, newline="", encoding="utf-8") as file:
        _, *rows = csv.reader(file)
    shares = np.zeros((len(rows), len(CLASSES)))
    for place, row in enumerate(rows):
        for label, confidence in zip(row[1:-1:2], row[2:-1:2]):
            shares[place, CLASSES.index(label)] = float(confidence)
    return [row[0] for row in rows], shares


def write_model(path, name, model, preset, classes):
    """A model file as `tl finetune` leaves it, whose classes may stand in another order."""
    state = model.state_dict()
    order = torch.tensor([CLASSES.index(label) for label in classes])
    state = {key: value[order].clone() if key.startswith("fc.") else value for key, value in state.items()}
    preprocessing = {
        "resize_size": preset.resize_size[0], "crop_size": preset.crop_size[0],
        "interpolation": preset.interpolation.value, "mean": preset.mean, "std": preset.std,
    }
    card = {"architecture": name, "classes": classes, "format": 1, "preprocessing": preprocessing, "recipe": {}}
    save_file(state, path, metadata={"tl": json.dumps(card)})


def main(tl):
    os.chdir(ROOT)
    torch.set_num_threads(int(THREADS))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        images = folder / "images"
        make_images(images)
        # A part of them: each is seen up to 20 times by two networks.
        for path in sorted(path for path in images.rglob("*") if path.is_file())[::2]:
            path.unlink()
        names = listed(images)
        members, files = [], []
        presets = [
            enum("resnet18")[0].transforms(), ImageClassification(crop_size=160, resize_size=171, mean=(0.5, 0.4, 0.3)),
        ]
        for name, preset in zip(("resnet18", "shufflenet_v2_x0_5"), presets):
            model = random_model(name, seed=5)
            # Confident enough for the mean of probabilities to be another thing than the softmax of the mean.
            with torch.no_grad():
                model.fc.weight.mul_(60 if members else 4)
            files.append(folder / f"{name}.safetensors")
            write_model(files[-1], name, model, preset, CLASSES if not members else CLASSES[::-1])
            members.append((model, preset))
        both = ["--model", files[0], "--model", files[1]]
        cases = [
            ("1 crop", members[:1], 1, [], 32), ("10 crops", members[:1], 10, [], 32),
            ("1 crop, 3 scales", members[:1], 1, [224, 256, 289], 32),
            ("10 crops, 2 scales, batches of 7", members[:1], 10, [224, 301], 7),
            ("10 crops of 160 from 171", members[1:], 10, [], 32),
            ("2 models", members, 1, [], 32), ("2 models, 10 crops, 2 scales", members, 10, [225, 256], 32),
        ]
        worst = 0.0
        for what, seen, crops, scales, batch in cases:
            models = both if len(seen) == 2 else ["--model", files[members.index(seen[0])]]
            arguments = [*models, "--crops", crops, "--batch-size", batch]
            arguments += ["--scales", ",".join(map(str, scales))] if scales else []
            paths, found = predicted(tl, folder, images, arguments)
            assert paths == [name for name, _ in names], what
            wanted = expected(seen, names, crops, scales)
            difference = float(np.abs(wanted - found).max())
            print(f"  {what:<40} {difference:.1e} of {wanted.max():.3f}")
            assert difference <= TOLERANCE, f"{what}: a probability differs by {difference:.2e}"
            worst = max(worst, difference)
    print(f"{len(cases)} comparisons on {len(names)} images: probabilities differ by at most {worst:.1e}")


if __name__ == "__main__":
    main(sys.argv[1])
