#!/usr/bin/env python3
"""Make the datasets of the experiment: folders of 64x64 PNG files, a folder a class.

    python3 scripts/experiment/datasets.py [OUT] [--install-fonts] [--threads N] [--tasks NAME,...]

writes OUT/tasks/<task>/{train,test}/<class>/*.png, OUT/source/{train,val}/<class>/*.png (what the second network is
pretrained on) and OUT/manifest.json; OUT is build/experiment. See tasks.py for what the tasks are. Every image is a
function of its task, split, class and number; the manifest has a sha256 over the pixels of each split and the versions
of what drew them.

Needs numpy, Pillow and the fonts of Debian packages; --install-fonts installs these with apt-get.
"""

import argparse
import hashlib
import json
import multiprocessing
import shutil
import sys
from pathlib import Path

import numpy as np
import PIL
from PIL import Image, features

import glyphs
import tasks

ROOT = Path(__file__).resolve().parent.parent.parent
DIGITS = ROOT / "data" / "digits"


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the datasets of the experiment.")
    parser.add_argument("out", type=Path, nargs="?", default=ROOT / "build" / "experiment", metavar="OUT")
    parser.add_argument("--install-fonts", action="store_true", help="apt-get install the font packages first")
    parser.add_argument("--threads", type=int, default=4, metavar="N")
    parser.add_argument("--tasks", default="", metavar="NAME,...", help="only these (and `source`)")
    args = parser.parse_args()
    chosen = args.tasks.split(",") if args.tasks else [task.name for task in tasks.TASKS] + ["source"]
    try:
        if args.install_fonts:
            glyphs.render_letters.TRAIN_PACKAGES = glyphs.TRAIN_PACKAGES
            glyphs.render_letters.VAL_PACKAGES = glyphs.TEST_PACKAGES
            glyphs.render_letters.install_fonts()
        make_all(args.out, chosen, args.threads)
    except glyphs.render_letters.Failure as failure:
        print(f"datasets: {failure}", file=sys.stderr)
        return 1
    return 0


def make_all(out, chosen, threads):
    """Makes each dataset beside its place and moves it there when complete; leaves what the manifest already has."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / "manifest.json"
    versions = {"numpy": np.__version__, "pillow": PIL.__version__, "freetype": features.version("freetype2")}
    manifest = json.loads(path.read_text()) if path.is_file() else {}
    if manifest.get("versions") != versions or manifest.get("scripts") != scripts_digest():
        manifest = {"versions": versions, "scripts": scripts_digest(), "fonts": font_digests(), "splits": {}}
    jobs = []
    for name in chosen:
        splits = ("train", "val") if name == "source" else ("train", "test")
        jobs += [(out, name, split) for split in splits if f"{name}/{split}" not in manifest["splits"]]
    with multiprocessing.Pool(threads) as pool:
        for key, entry in pool.imap(make_split, jobs):
            manifest["splits"][key] = entry
            print(f"{key}: {entry['images']} images, {entry['classes']} classes, {entry['sha256'][:16]}", file=sys.stderr)
            manifest["splits"] = dict(sorted(manifest["splits"].items()))
            path.write_text(json.dumps(manifest, indent=1) + "\n")


def make_split(job):
    """Writes one split of one dataset; returns its manifest entry."""
    out, name, split = job
    folder = out / "source" / split if name == "source" else out / "tasks" / name / split
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    if name == "digits_hand":
        shutil.copytree(DIGITS / split, partial)
    else:
        draw_split(partial, name, split)
    digest, images = hashlib.sha256(), 0
    for file in sorted(partial.rglob("*.png")):
        digest.update(str(file.relative_to(partial)).encode())
        digest.update(np.asarray(Image.open(file)).tobytes())
        images += 1
    partial.rename(folder)
    labels = sorted(path.name for path in folder.iterdir())
    return f"{name}/{split}", {"images": images, "classes": len(labels), "sha256": digest.hexdigest()}


def draw_split(folder, name, split):
    if name == "source":
        count = tasks.SOURCE_IMAGES[split]
    else:
        count = max(tasks.named(name).sizes) if split == "train" else tasks.TEST_IMAGES
    maker = tasks.Maker(name, split)
    for label, class_name in enumerate(tasks.classes(name)):
        (folder / class_name).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(maker.image(label, number)).save(folder / class_name / f"{number:04}.png")


def font_digests():
    """Every font file with its sha256, by split."""
    return {
        split: {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for _, path in glyphs.fonts(split)}
        for split in ("train", "test")
    }


def scripts_digest():
    """Over what draws: a change there makes everything anew."""
    digest = hashlib.sha256()
    for script in ("glyphs.py", "scenes.py", "textures.py", "tasks.py"):
        digest.update((Path(__file__).resolve().parent / script).read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
