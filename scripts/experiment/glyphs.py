"""Printed letters and digits in fonts that the shipped weights never saw, in the shapes that the tasks need.

`blurred` ones are drawn as scripts/render_letters.py draws the pretraining letters; `sharp` ones are small, crisp and
anywhere in the image. The fonts of the test images are other families than those of the training images.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import render_letters  # noqa: E402  (scripts/ is no package)

import textures  # noqa: E402

TRAIN_PACKAGES = {
    "fonts-averia-serif-gwf": (),
    "fonts-cantarell": ("Thin.otf",),
    "fonts-courier-prime": (),
    "fonts-crosextra-caladea": (),
    "fonts-femkeklaver": (),
    "fonts-open-sans": ("CondLight.ttf", "CondLightItalic.ttf"),
    "fonts-tuffy": ("tuffy_bold.ttf", "tuffy_bold_italic.ttf", "tuffy_italic.ttf", "tuffy_regular.ttf"),
}
TEST_PACKAGES = {
    "fonts-comic-neue": (),
    "fonts-ocr-a": (),
    "fonts-play": ("Play-Bold.ttf", "Play-Regular.ttf"),
    "fonts-yanone-kaffeesatz": ("ExtraLight.otf",),
}
SIDE = textures.SIDE


def fonts(split):
    """(package, path) of the fonts of `train` or `test`, or of `all`."""
    if split == "all":
        return fonts("train") + fonts("test")
    return render_letters.font_files(TRAIN_PACKAGES if split == "train" else TEST_PACKAGES)


class Glyphs:
    """Draws characters of a split's fonts, each font equally often."""

    def __init__(self, split):
        size = render_letters.FONT_SIZE
        engine = ImageFont.Layout.BASIC
        self.large = [ImageFont.truetype(str(path), size, layout_engine=engine) for _, path in fonts(split)]
        self.small = [ImageFont.truetype(str(path), 32, layout_engine=engine) for _, path in fonts(split)]

    def blurred(self, rng, character):
        """White on black, as the pretraining letters: 64 x 64, in [0, 1]."""
        import random

        font = self.large[int(rng.integers(len(self.large)))]
        image = render_letters.render_letter(font, character, random.Random(int(rng.integers(2**62))))
        return np.asarray(image, np.float32) / 255

    def sharp(self, rng, character):
        """Crisp, 24 to 44 pixels high and anywhere: 64 x 64, in [0, 1]."""
        font = self.small[int(rng.integers(len(self.small)))]
        canvas = Image.new("L", (96, 96))
        ImageDraw.Draw(canvas).text((32, 24), character, fill=255, font=font)
        canvas = canvas.rotate(rng.uniform(-15, 15), Image.Resampling.BICUBIC)
        glyph = canvas.crop(canvas.getbbox())
        height = int(rng.integers(24, 45))
        width = min(max(4, round(glyph.width * height / glyph.height)), 60)
        glyph = glyph.resize((width, height), Image.Resampling.BICUBIC)
        image = Image.new("L", (SIDE, SIDE))
        image.paste(glyph, (int(rng.integers(SIDE - width + 1)), int(rng.integers(SIDE - height + 1))))
        return np.asarray(image, np.float32) / 255


def grey(field):
    """A field in [0, 1] as a grey RGB image."""
    return np.repeat((field * 255).round().astype(np.uint8)[..., None], 3, axis=2)


def faint(rng, field):
    """A field in [0, 1] with a half or less of its contrast, on dark grey, with grain."""
    field = rng.uniform(0.05, 0.25) + field * rng.uniform(0.3, 0.5)
    return grey(np.clip(field + rng.standard_normal(field.shape) * 0.05, 0, 1))


def covered(rng, field):
    """A field with a grey bar across it, in any direction."""
    u, _ = textures.turned(rng, rng.uniform(0, np.pi))
    near = np.abs(u - u.mean() - rng.uniform(-14, 14))
    return grey(np.where(near < rng.uniform(3, 6), 0.5, field))


def wavy(rng, field):
    """A field whose lines are shifted by a wave, along them and across."""
    def shift(along):
        high, length, phase = rng.uniform(2, 4.5), rng.uniform(18, 36), rng.uniform(0, 2 * np.pi)
        return high * np.sin(2 * np.pi * along / length + phase)

    x = np.clip(textures.X + shift(textures.Y), 0, SIDE - 1.001)
    y = np.clip(textures.Y + shift(textures.X), 0, SIDE - 1.001)
    left, top = x.astype(int), y.astype(int)
    right, low = x - left, y - top
    upper = field[top, left] * (1 - right) + field[top, left + 1] * right
    lower = field[top + 1, left] * (1 - right) + field[top + 1, left + 1] * right
    return upper * (1 - low) + lower * low


def doubled(rng, field):
    """A field and a paler copy of it, some pixels away in any direction."""
    angle, far = rng.uniform(0, 2 * np.pi), rng.uniform(5, 10)
    copy = np.roll(field, (round(far * np.sin(angle)), round(far * np.cos(angle))), (0, 1))
    return np.maximum(field, copy * rng.uniform(0.5, 0.8))


def struck(rng, field):
    """A field struck through by a thin line, at any angle, through the middle of its ink."""
    u, _ = textures.turned(rng)
    middle = np.average(u, weights=field + 1e-9)
    return np.maximum(field, textures.soft(rng.uniform(0.8, 1.8) - np.abs(u - middle - rng.uniform(-4, 4))))


def outlined(field):
    """The edge of the ink alone: the field's gradient."""
    dy, dx = np.gradient(field)
    edge = np.hypot(dx, dy)
    return edge / max(edge.max(), 1e-6)


def recoloured(rng, field):
    """Ink and paper in two random colours."""
    first, second = textures.colours(rng)
    image = first * field[..., None] + second * (1 - field[..., None])
    return (np.clip(image, 0, 1) * 255).round().astype(np.uint8)


def textured(rng, field):
    """Ink of one noise on paper of another: only the texture's coarseness tells them apart."""
    fine = textures.unit(textures.band(rng, 3, 6))
    coarse = textures.unit(textures.band(rng, 10, 30))
    if rng.uniform() < 0.5:
        fine, coarse = coarse, fine
    mixed = fine * field + coarse * (1 - field)
    return textures.coloured(rng, mixed)
