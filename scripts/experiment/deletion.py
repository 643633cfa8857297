"""Do heat maps show what a network looks at? The deletion check of docs/explain.md.

    ~/.cache/tl/oracle/bin/python scripts/experiment/deletion.py TL FOLDER [IMAGES]

`tl explain` maps photographs of FOLDER with EfficientNet-Lite0 (`make weights MODEL=efficientnet_lite0`), for the class
that it finds most likely. Then a tenth of each image is hidden, in the mean colour, and the class's probability is
computed by timm: the tenth where the map is hottest, and tenths that know nothing of the map, each of them in pieces as
large. Printed are the mean probabilities, and in how many images the hottest tenth cost most.
"""

import csv
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests/oracle"))

from check_lite import TABLE, preset, timms

import numpy as np
import torch
from PIL import Image, ImageOps

NAME = "efficientnet_lite0"
SHARE = 0.1
# Random tenths are drawn this often for each image, and averaged.
DRAWS = 3


def hottest(heat):
    """The hottest tenth of the pixels."""
    mask = np.zeros(heat.size, bool)
    mask[np.argsort(-heat, axis=None, kind="stable")[: round(SHARE * heat.size)]] = True
    return mask.reshape(heat.shape)


def squares(side, rng, cell=32):
    """A random tenth: 5 of the 49 squares that one place of the map covers."""
    count = side // cell
    mask = np.zeros(count * count, bool)
    mask[rng.choice(mask.size, round(SHARE * mask.size), replace=False)] = True
    return mask.reshape(count, count).repeat(cell, 0).repeat(cell, 1)


def centre(side):
    """The middle: photographs have their object there."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    return hottest(-(y**2 + x**2))


def masks(heat, rng):
    side = heat.shape[0]
    region = hottest(heat)
    shifted = [np.roll(region, rng.integers(side, size=2), (0, 1)) for _ in range(DRAWS)]
    return {
        "the hottest tenth": [region],
        "random squares": [squares(side, rng) for _ in range(DRAWS)],
        "the hottest tenth's shape, elsewhere": shifted,
        "the tenth in the middle": [centre(side)],
    }


def explained(tl, method, paths, out):
    command = [tl, "explain", NAME, *map(str, paths), "--method", method, "--out", str(out), "--device", "cpu", "--quiet"]
    subprocess.run(command, check=True)
    with open(out / "index.csv", newline="", encoding="utf-8") as file:
        return {row["path"]: (row["label"], float(row["confidence"]), np.load(out / row["map"])) for row in csv.DictReader(file)}


def main(tl, folder, images="200"):
    torch.set_num_threads(1)
    with open(TABLE, newline="", encoding="utf-8") as file:
        row = next(row for row in csv.DictReader(file) if row["model"] == NAME)
    model = timms(row, Path(torch.hub.get_dir()) / "checkpoints" / row["file"])
    classes = (Path(__file__).resolve().parents[2] / "data/imagenet_classes.txt").read_text(encoding="utf-8").splitlines()
    paths = sorted(path for path in Path(folder).iterdir() if path.suffix == ".jpg")[: int(images)]
    transform = preset(row)

    def probability(batch, index):
        with torch.no_grad():
            return torch.softmax(model(batch), 1)[:, index]

    for method in ("gradcam", "layercam"):
        rng = np.random.default_rng(0)
        kept, whole = {}, []
        with tempfile.TemporaryDirectory() as scratch:
            found = explained(tl, method, paths, Path(scratch) / "maps")
        for path in paths:
            label, confidence, heat = found[str(path)]
            image = transform(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
            before = probability(image[None], slice(None))[0]
            index = int(before.argmax())
            assert classes[index] == label and abs(before[index] - confidence) < 1e-4, path
            whole.append(float(before[index]))
            for name, tenths in masks(heat, rng).items():
                batch = torch.stack([image * torch.from_numpy(~mask) for mask in tenths])
                kept.setdefault(name, []).append(float(probability(batch, index).mean()))
        print(f"{method}, {len(paths)} images: {np.mean(whole):.3f} with nothing hidden")
        first = np.array(kept["the hottest tenth"])
        for name, values in kept.items():
            values = np.array(values)
            more = np.mean(first < values)
            margin = 1.96 * np.std(values - first, ddof=1) / len(paths) ** 0.5
            beaten = "" if values is first or name == "the hottest tenth" else (
                f"; the hottest tenth costs {np.mean(values - first):.3f} ± {margin:.3f} more, and more in {more:.0%} of the images"
            )
            print(f"  {name:<38} {values.mean():.3f}{beaten}")


if __name__ == "__main__":
    main(*sys.argv[1:])
