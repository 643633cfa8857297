#!/usr/bin/env python3
"""Render printed letters (A-Z and a-z, no digits) from free fonts, as pretraining data.

    python3 scripts/render_letters.py OUT [--install-fonts]

writes OUT/train/<class>/*.png, OUT/val/<class>/*.png and OUT/manifest.json. There are 52 classes,
`upper_A` ... `lower_z`, so that the folders also differ where file names ignore case. The fonts of
`val` are other families than those of `train`: accuracy on `val` is accuracy on unseen fonts.

A letter is drawn white on black, slanted, turned and stretched a little, shrunk into 8 to 16 pixels
as the 8x8 handwritten digits in data/digits are, and enlarged to 64x64 again. Everything random
is a function of the seed, the font file and the letter: equal fonts and equal Pillow and FreeType
versions give equal bytes. The manifest names all three, and ends in one digest of all the images.

Needs Pillow (`python3 -m pip install pillow`) and the Debian or Ubuntu font packages below.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import string
import subprocess
import sys
from pathlib import Path

# Package -> how its font files are chosen: the endings of names that are left out (symbols, keyboard
# keys, initials, second copies of a face).
TRAIN_PACKAGES = {
    "fonts-averia-sans-gwf": (),
    "fonts-breip": ("breipfont.ttf",),
    "fonts-comfortaa": (),
    "fonts-crosextra-carlito": (),
    "fonts-dejavu-core": (),
    "fonts-dejavu-extra": ("MathTeXGyre.ttf", "CondensedOblique.ttf", "Condensed-Oblique.ttf"),
    "fonts-dkg-handwriting": (),
    "fonts-dosis": (),
    "fonts-ecolier-court": (),
    "fonts-freefont-ttf": (),
    "fonts-humor-sans": (),
    "fonts-jura": (),
    "fonts-lato": ("Hairline.ttf", "HairlineItalic.ttf", "Thin.ttf", "ThinItalic.ttf"),
    "fonts-liberation": (),
    "fonts-linuxlibertine": ("_K.otf", "_DR.otf", "_I.otf", "_M.otf", "_RZ.otf", "_RZI.otf"),
    "fonts-lobstertwo": (),
    "fonts-quicksand": (),
    "fonts-rufscript": (),
    "fonts-sil-gentium-basic": (),
}
VAL_PACKAGES = {
    "fonts-cantarell": ("Thin.otf",),
    "fonts-comic-neue": (),
    "fonts-crosextra-caladea": (),
    "fonts-femkeklaver": (),
}
FONT_ENDINGS = (".ttf", ".otf")

LETTERS = {f"upper_{c}": c for c in string.ascii_uppercase} | {f"lower_{c}": c for c in string.ascii_lowercase}
SIZE = 64  # side of an image, in pixels
FONT_SIZE = 96  # a letter is drawn this large before it is shrunk
BLUR_PIXELS = (8, 16)  # the side of the grid that a letter is shrunk into
VARIANTS = {"train": 2, "val": 1}  # images a letter and a font
SEED = 0


class Failure(Exception):
    """A mistake of the surroundings, told in one line."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Render printed letters from free fonts, as pretraining data.")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write; replaced if this script made it")
    parser.add_argument("--install-fonts", action="store_true", help="apt-get install the font packages first")
    args = parser.parse_args()
    try:
        check_out(args.out)
        if args.install_fonts:
            install_fonts()
        render_all(args.out)
    except Failure as failure:
        print(f"render_letters: {failure}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"render_letters: cannot write the letters: {error}", file=sys.stderr)
        return 1
    return 0


def check_out(out: Path) -> None:
    """Refuses to replace a folder that something else wrote."""
    if out.exists() and not (out / "manifest.json").is_file() and (not out.is_dir() or any(out.iterdir())):
        raise Failure(f"{out} exists and was not written by this script: name another folder, or remove it")


def install_fonts() -> None:
    """Installs the font packages with apt-get, through sudo if need be."""
    if shutil.which("apt-get") is None:
        raise Failure("--install-fonts needs apt-get (Debian, Ubuntu): install the fonts by other means")
    command = ["apt-get", "install", "-y", "--no-install-recommends", *TRAIN_PACKAGES, *VAL_PACKAGES]
    if os.geteuid() != 0:
        command.insert(0, "sudo")
    try:
        subprocess.run(command, check=True, stdout=sys.stderr)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Failure(f"the fonts could not be installed ({error}); `apt-get update` may help") from None


def font_files(packages: dict) -> list:
    """(package, path) of every chosen font file, sorted by file name."""
    if shutil.which("dpkg-query") is None:
        raise Failure("the fonts are found through dpkg-query: run this on Debian or Ubuntu, or in a container of one")
    found, missing = [], []
    for package, left_out in packages.items():
        listing = subprocess.run(["dpkg-query", "-L", package], capture_output=True, text=True, check=False)
        if listing.returncode != 0:
            missing.append(package)
            continue
        for line in listing.stdout.splitlines():
            path = Path(line)
            if path.suffix.lower() in FONT_ENDINGS and not path.name.endswith(left_out) and not path.is_symlink():
                found.append((package, path))
    if missing:
        raise Failure(
            f"{len(missing)} font packages are missing: run again with --install-fonts, "
            f"or `sudo apt-get install {' '.join(missing)}`"
        )
    return sorted(found, key=lambda entry: entry[1].name)


def render_all(out: Path) -> None:
    """Renders everything beside `out` and moves it into place when it is complete."""
    try:
        import PIL
        from PIL import features
    except ImportError:
        raise Failure("Pillow is missing: `python3 -m pip install pillow` or `sudo apt-get install python3-pil`") from None

    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    digest = hashlib.sha256()
    manifest = {
        "pillow": PIL.__version__,
        "freetype": features.version("freetype2"),
        "seed": SEED,
        "images": {},
        "fonts": [],
    }
    for split, packages in (("train", TRAIN_PACKAGES), ("val", VAL_PACKAGES)):
        fonts = font_files(packages)
        for label in LETTERS:
            (partial / split / label).mkdir(parents=True)
        count = 0
        for package, path in fonts:
            count += render_font(path, partial / split, VARIANTS[split], digest)
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            manifest["fonts"].append({"split": split, "package": package, "file": path.name, "sha256": sha256})
        manifest["images"][split] = count
        print(f"{split}: {count} images from {len(fonts)} fonts", file=sys.stderr)
    manifest["sha256_of_all_pixels"] = digest.hexdigest()
    (partial / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    shutil.rmtree(out, ignore_errors=True)
    partial.rename(out)
    print(f"{out}: pixels sha256 {digest.hexdigest()[:16]}", file=sys.stderr)


def render_font(path: Path, folder: Path, variants: int, digest) -> int:
    """Writes every letter of one font; returns how many images that were."""
    from PIL import ImageFont

    # The basic layout engine: the other one is not in every build of Pillow.
    font = ImageFont.truetype(str(path), FONT_SIZE, layout_engine=ImageFont.Layout.BASIC)
    stem = path.stem.replace(" ", "")
    count = 0
    for label, letter in LETTERS.items():
        for variant in range(variants):
            image = render_letter(font, letter, random.Random(f"{SEED}/{path.name}/{label}/{variant}"))
            if image is None:
                raise Failure(f"{path} has no letter {letter!r}: leave the file out at the head of this script")
            image.save(folder / label / f"{stem}-{variant}.png")
            digest.update(image.tobytes())
            count += 1
    return count


def render_letter(font, letter: str, rng: random.Random):
    """One 64x64 grey image of `letter`, or None if the font draws nothing."""
    from PIL import Image, ImageDraw

    side = 3 * FONT_SIZE
    canvas = Image.new("L", (side, side))
    # Pens are thicker than most print: a third of a stroke more at the most.
    stroke = rng.choice((0, 0, 1, 2, 3, 4))
    ImageDraw.Draw(canvas).text((FONT_SIZE, FONT_SIZE), letter, fill=255, font=font, stroke_width=stroke)
    if canvas.getbbox() is None:
        return None
    turn = rng.uniform(-12, 12)
    slant = rng.uniform(-0.2, 0.2)
    canvas = canvas.rotate(turn, Image.Resampling.BICUBIC)
    canvas = canvas.transform(
        canvas.size, Image.Transform.AFFINE, (1, slant, -slant * side / 2, 0, 1, 0), Image.Resampling.BICUBIC
    )
    glyph = canvas.crop(canvas.getbbox())

    # Into the grid: as high as the grid or a little less, no wider than it, and anywhere in it.
    grid = rng.randint(*BLUR_PIXELS)
    height = max(1, round(SIZE * rng.uniform(0.8, 1.0)))
    width = round(glyph.width * height / glyph.height * rng.uniform(0.8, 1.2))
    width = min(max(width, SIZE // 8), SIZE)
    glyph = glyph.resize((width, height), Image.Resampling.BOX)
    image = Image.new("L", (SIZE, SIZE))
    left = (SIZE - width) // 2 + rng.randint(-4, 4)
    top = rng.randint(0, SIZE - height)
    image.paste(glyph, (left, top))
    return image.resize((grid, grid), Image.Resampling.BOX).resize((SIZE, SIZE), Image.Resampling.BILINEAR)


if __name__ == "__main__":
    sys.exit(main())
