#!/usr/bin/env python3
"""The images of the benchmark, made once from the two photographs in data/photos.

    python3 images.py FOLDER [--photographs N] [--large N] [--labelled N] [--tiny N]

Every image is a random crop of one of the photographs (640×427, CC BY 2.0, credited in data/README.md), resized and
with a little noise, so that no two files are alike and none compresses better than a photograph does:

    photographs-N/  500×375, JPEG quality 90, as ImageNet's images are
    large-N/        4000×3000 (12 megapixels), upscaled crops: the size of a telephone's photographs, less their detail
    labelled-N/     500×375 in train/CLASS and val/CLASS; a class is a tint of the colours, faint enough to be mistaken
    tiny-N/         64×64; a hundred different ones, the other names are hard links to them

The same arguments give the same pixels. A set that is whole is left alone.
"""

import argparse
import os
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

PHOTOS = sorted((Path(__file__).resolve().parent.parent / "data" / "photos").glob("*.jpg"))
CLASSES = 8
TINY = 100
# The share of a class's tint in the colours. At 0.1 a linear classifier on random features is right on 7 of 10.
TINT = 0.1


def crop(number: int, size: tuple, noise: float, tint=None) -> Image.Image:
    """Image `number` of a set: a crop of the size's shape, at least a third of the photograph's width."""
    rng = np.random.default_rng([number, size[0]])
    with Image.open(PHOTOS[number % len(PHOTOS)]) as photo:
        photo = photo.convert("RGB")
    width = photo.width * rng.uniform(0.35, 0.8)
    height = min(width * size[1] / size[0], photo.height)
    left, top = rng.uniform(0, photo.width - width), rng.uniform(0, photo.height - height)
    box = (left, top, left + width, top + height)
    image = photo.resize(size, Image.Resampling.BICUBIC, box=box)
    pixels = np.asarray(image, dtype=np.float32)
    pixels = pixels + rng.standard_normal(pixels.shape, dtype=np.float32) * noise
    if tint is not None:
        pixels *= 1 + TINT * tint + 0.03 * rng.standard_normal(3, dtype=np.float32)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def save(job: tuple) -> None:
    path, number, size, noise, tint = job
    crop(number, size, noise, tint).save(path, quality=90)


def photographs(folder: Path, count: int, size: tuple, noise: float) -> list:
    return [(folder / f"{number:05}.jpg", number, size, noise, None) for number in range(count)]


def labelled(folder: Path, count: int) -> list:
    """`count` to train on and a quarter as many to measure on, by class in turn."""
    # The corners of a cube: every two tints differ in one channel at least.
    tints = [np.array([1 if label >> bit & 1 else -1 for bit in range(3)], np.float32) for label in range(CLASSES)]
    jobs = []
    for number in range(count + count // 4):
        part, label = ("train" if number < count else "val"), number // 2 % CLASSES
        path = folder / part / f"tint{label}" / f"{number:05}.jpg"
        jobs.append((path, number, (500, 375), 3.0, tints[label]))
    return jobs


def tiny(folder: Path, count: int) -> list:
    return photographs(folder, min(count, TINY), (64, 64), 2.0)


def make(folder: Path, name: str, count: int, jobs: list, links: int = 0) -> None:
    """One set, whole or not at all; `links` further names of its files."""
    done = folder / f"{name}.done"
    if done.is_file():
        return
    shutil.rmtree(folder / name, ignore_errors=True)
    print(f"making {count} images in {folder / name}", file=sys.stderr)
    for parent in {job[0].parent for job in jobs}:
        parent.mkdir(parents=True)
    with ProcessPoolExecutor() as pool:
        list(pool.map(save, jobs, chunksize=4))
    for number in range(len(jobs), links):
        os.link(jobs[number % len(jobs)][0], folder / name / f"{number:05}.jpg")
    done.touch()


def make_all(folder: Path, counts: dict) -> None:
    """The sets that are named, each with its number of images."""
    for kind, count in counts.items():
        name = f"{kind}-{count}"
        if kind == "photographs":
            make(folder, name, count, photographs(folder / name, count, (500, 375), 3.0))
        elif kind == "large":
            make(folder, name, count, photographs(folder / name, count, (4000, 3000), 4.0))
        elif kind == "labelled":
            make(folder, name, count, labelled(folder / name, count))
        else:
            make(folder, name, count, tiny(folder / name, count), links=count)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Makes the images of the benchmark.")
    parser.add_argument("folder", type=Path)
    for name in ("photographs", "large", "labelled", "tiny"):
        parser.add_argument(f"--{name}", type=int, metavar="N")
    arguments = vars(parser.parse_args())
    target = arguments.pop("folder")
    make_all(target, {name: count for name, count in arguments.items() if count})
