"""What `decode: fast` changes and saves, and how long decoding takes beside Pillow: the figures of docs/decoding.md.

    ~/.cache/tl/oracle/bin/python scripts/decoding.py [--photos DIR] [--work DIR] [--rounds N]

The 12-megapixel images are enlarged crops of two small photographs (`china.jpg` and `flower.jpg` of DIR) with a little
noise, since no large photographs are shipped: a camera's have more detail, and more of it is lost. For accuracy, the
demo's model reads the demo's test digits, twenty a class, each enlarged to a JPEG of 1100 x 1100 pixels.
"""

import argparse
import csv
import json
import statistics
import subprocess
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.models import ResNet18_Weights

ROOT = Path(__file__).resolve().parent.parent


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--photos", type=Path, default=ROOT / "data/photos")
    parser.add_argument("--work", type=Path, default=ROOT / "build/decoding")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    work = arguments.work
    large, small, digits = work / "large", work / "small", work / "digits"
    if not digits.exists():
        photographs(arguments.photos, large, small)
        enlarge_digits(digits)
    times(large, small, arguments.rounds)
    features(work, large)
    accuracy(work, digits)


def photographs(photos, large, small):
    rng = np.random.default_rng(0)
    for folder in (large, small):
        folder.mkdir(parents=True, exist_ok=True)
    for name in ("china", "flower"):
        photo = Image.open(photos / f"{name}.jpg").convert("RGB")
        for number in range(4):
            height = int(rng.integers(300, photo.height + 1))
            width = height * 4 // 3
            left, top = (int(rng.integers(0, room + 1)) for room in (photo.width - width, photo.height - height))
            crop = photo.crop((left, top, left + width, top + height))
            crop.resize((500, 375), Image.BICUBIC).save(small / f"{name}{number}.jpg", quality=90)
            noisy(crop.resize((4000, 3000), Image.BICUBIC), rng).save(large / f"{name}{number}.jpg", quality=90)


def enlarge_digits(folder):
    rng = np.random.default_rng(1)
    for label in sorted((ROOT / "data/digits/test").iterdir()):
        (folder / label.name).mkdir(parents=True)
        for path in sorted(label.iterdir())[:20]:
            digit = Image.open(path).convert("RGB").resize((1100, 1100), Image.BICUBIC)
            noisy(digit, rng).save(folder / label.name / f"{path.stem}.jpg", quality=90)


def noisy(image, rng):
    pixels = np.asarray(image).astype(np.float32)
    pixels += rng.normal(0, 3, pixels.shape).astype(np.float32)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def times(large, small, rounds):
    """Alternates with Pillow and torchvision, each on one thread, by what the thread has computed."""
    command = ["cargo", "build", "--release", "--bench", "decoding", "--message-format=json", "--quiet"]
    lines = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    artifacts = [json.loads(line) for line in lines if line.startswith("{")]
    bench = [a["executable"] for a in artifacts if a.get("target", {}).get("name") == "decoding"][0]
    for folder in (large, small):
        passes = 1 if folder == large else 10
        pillow = []
        for _ in range(rounds):
            pillow.append(torchvision(folder, passes))
            print(folder.name, subprocess.run([bench, folder, str(passes)], check=True, capture_output=True, text=True).stdout)
        decode, rest = (statistics.median(column) for column in zip(*pillow))
        print(f"{folder.name}: Pillow decodes in {decode:.2f} ms, torchvision prepares in {rest:.2f} ms more\n")


def torchvision(folder, passes):
    transforms = ResNet18_Weights.IMAGENET1K_V1.transforms()
    decode = rest = count = 0
    for _ in range(passes):
        for path in sorted(folder.iterdir()):
            start = time.thread_time()
            image = Image.open(path).convert("RGB")
            between = time.thread_time()
            transforms(image)
            rest += time.thread_time() - between
            decode += between - start
            count += 1
    return decode / count * 1e3, rest / count * 1e3


def tl(*arguments):
    subprocess.run([ROOT / "target/release/tl", *map(str, arguments), "--quiet"], cwd=ROOT, check=True)


def features(work, large):
    letters = ROOT / "data/shufflenet_v2_x0_5-letters.safetensors"
    for model, weights in (("shufflenet_v2_x0_5", letters), ("resnet18", "none")):
        rows = []
        for mode in ("exact", "fast"):
            out = work / f"{model}-{mode}.npy"
            tl("extract", "--model", model, "--weights", weights, "--decode", mode, "--out", out, large)
            rows.append(np.load(out).astype(np.float64))
        exact, fast = rows
        moved = np.linalg.norm(exact - fast, axis=1) / np.linalg.norm(exact, axis=1)
        apart = np.linalg.norm(exact - np.roll(exact, 1, axis=0), axis=1) / np.linalg.norm(exact, axis=1)
        print(
            f"{model} ({'initial values' if weights == 'none' else 'letters'}): features move by {100 * moved.mean():.3f} % "
            f"of their length, at most {100 * moved.max():.3f} %; one image to the next {100 * apart.mean():.1f} %"
        )


def accuracy(work, digits):
    tl("finetune", "recipes/digits-linear.yaml", "--out", work / "run", "--overwrite")
    rows = {}
    for mode in ("exact", "fast"):
        out = work / f"{mode}.csv"
        tl("predict", "--model", work / "run", "--decode", mode, "--out", out, digits)
        rows[mode] = list(csv.DictReader(out.open()))
        right = sum(row["label"] == Path(row["path"]).parent.name for row in rows[mode])
        print(f"{mode}: {right} of {len(rows[mode])} enlarged digits are right")
    pairs = list(zip(rows["exact"], rows["fast"]))
    changed = sum(a["label"] != b["label"] for a, b in pairs)
    moved = [abs(float(a["confidence"]) - float(b["confidence"])) for a, b in pairs if a["label"] == b["label"]]
    print(f"{changed} answers changed; confidences by {max(moved):.4f} at most, {sum(moved) / len(moved):.5f} on average")


if __name__ == "__main__":
    main()
