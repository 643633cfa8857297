"""Tasks that are neither letters nor textures: crops of the two photographs, outlines of shapes, numbers of discs."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import textures

PHOTOS = Path(__file__).resolve().parent.parent.parent / "data" / "photos"
SIDE = textures.SIDE
SHAPES = ("circle", "square", "triangle", "star", "hexagon", "cross", "arrow", "crescent", "ring", "heart")


class Regions:
    """Which region of a photograph a crop is from.

    A part of the photograph (`columns` by `rows`, without its plain sky) is divided into regions; each region into 3 x 3 cells, of which two, on a
    diagonal, are only for test images: no pixel is in training and test images.
    """

    def __init__(self, photo, columns, rows, across, down):
        self.image = Image.open(PHOTOS / photo).convert("RGB")
        (left, right), (top, bottom) = columns, rows
        self.width, self.height = (right - left) / across, (bottom - top) / down
        self.corners = [(left + i * self.width, top + j * self.height) for j in range(down) for i in range(across)]

    def names(self):
        return [f"region_{i:02}" for i in range(len(self.corners))]

    def crop(self, rng, region, split):
        """A crop of one cell (of any, if the split is "all"), enlarged to 64 x 64, with other brightness, contrast and
        white balance."""
        test, train = [(2, 0), (0, 2)], [(0, 0), (1, 0), (0, 1), (1, 1), (2, 1), (1, 2), (2, 2)]
        cells = {"test": test, "train": train, "all": test + train}[split]
        i, j = cells[int(rng.integers(len(cells)))]
        cell_width, cell_height = self.width / 3, self.height / 3
        side = min(cell_width, cell_height) * rng.uniform(0.7, 1.0)
        x = self.corners[region][0] + i * cell_width + rng.uniform(0, cell_width - side)
        y = self.corners[region][1] + j * cell_height + rng.uniform(0, cell_height - side)
        crop = self.image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=(x, y, x + side, y + side))
        pixels = np.asarray(crop, np.float32) / 255
        if rng.uniform() < 0.5:
            pixels = pixels[:, ::-1]
        mean = pixels.mean()
        pixels = (pixels - mean) * rng.uniform(0.7, 1.3) + mean * rng.uniform(0.8, 1.2)
        pixels = pixels * rng.uniform(0.85, 1.15, 3) + rng.standard_normal(pixels.shape) * 0.02
        return (np.clip(pixels, 0, 1) * 255).round().astype(np.uint8)


def polygon(name):
    """Corners of a shape around (0, 0), of radius 1."""
    turn = 2 * np.pi

    def ring(radii):
        count = len(radii)
        return [(r * np.cos(turn * k / count), r * np.sin(turn * k / count)) for k, r in enumerate(radii)]

    if name == "square":
        return ring([1] * 4)
    if name == "triangle":
        return ring([1] * 3)
    if name == "hexagon":
        return ring([1] * 6)
    if name == "star":
        return ring([1, 0.42] * 5)
    if name == "cross":
        a, b = 0.3, 0.95
        return [(a, b), (-a, b), (-a, a), (-b, a), (-b, -a), (-a, -a), (-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a)]
    if name == "arrow":
        return [(1, 0), (0, 0.8), (0, 0.3), (-1, 0.3), (-1, -0.3), (0, -0.3), (0, -0.8)]
    if name == "heart":
        t = np.linspace(0, turn, 40)
        return [(np.sin(a) ** 3, (13 * np.cos(a) - 5 * np.cos(2 * a) - 2 * np.cos(3 * a) - np.cos(4 * a)) / 16) for a in t]
    return ring([1] * 40)


def shape(rng, name):
    """A filled shape of random size, place, turn and colours on a textured ground."""
    scale = 4
    mask = Image.new("L", (SIDE * scale, SIDE * scale))
    draw = ImageDraw.Draw(mask)
    radius = rng.uniform(11, 20) * scale
    x, y = rng.uniform(22, 42, 2) * scale
    angle = rng.uniform(0, 2 * np.pi)
    c, s = np.cos(angle), np.sin(angle)

    def put(corners, grow=1.0, dx=0.0, fill=255):
        at = [((u + dx) * grow, v * grow) for u, v in corners]
        draw.polygon([(x + radius * (u * c - v * s), y + radius * (u * s + v * c)) for u, v in at], fill=fill)

    put(polygon(name))
    if name == "crescent":
        put(polygon("circle"), 0.85, 0.6, 0)
    if name == "ring":
        put(polygon("circle"), 0.6, 0.0, 0)
    inside = np.asarray(mask.resize((SIDE, SIDE), Image.Resampling.BOX), np.float32)[..., None] / 255
    first, second = textures.colours(rng)
    ground = textures.coloured(rng, textures.band(rng, 8, 24), (second, np.clip(second + rng.uniform(-0.2, 0.2, 3), 0, 1)))
    image = first * 255 * inside + ground * (1 - inside)
    return np.clip(image.round(), 0, 255).astype(np.uint8)


def discs(rng, count):
    """`count` discs of differing sizes that do not touch."""
    ground = textures.coloured(rng, textures.band(rng, 10, 40)).astype(np.float32)
    ground = ground.mean((0, 1)) + (ground - ground.mean((0, 1))) * 0.3
    placed = []
    while len(placed) < count:
        radius = rng.uniform(4, 7.5)
        x, y = rng.uniform(radius + 1, SIDE - radius - 1, 2)
        if all(np.hypot(x - a, y - b) > radius + r + 2 for a, b, r in placed):
            placed.append((x, y, radius))
    brighter = ground.mean() < 128
    for x, y, radius in placed:
        inside = textures.soft(radius - np.hypot(textures.X - x, textures.Y - y))[..., None]
        colour = rng.uniform(170, 255, 3) if brighter else rng.uniform(0, 85, 3)
        ground = colour * inside + ground * (1 - inside)
    return np.clip(ground.round(), 0, 255).astype(np.uint8)


BARS = 8


def bar(rng, direction):
    """A bar of random size, place and colours in one of BARS directions, on a textured ground among three discs."""
    ground = textures.coloured(rng, textures.band(rng, 6, 30)).astype(np.float32)
    ground = ground.mean((0, 1)) + (ground - ground.mean((0, 1))) * 0.5
    brighter = ground.mean() < 128

    def paint(distance):
        nonlocal ground
        inside = textures.soft(-distance)[..., None]
        colour = rng.uniform(170, 255, 3) if brighter else rng.uniform(0, 85, 3)
        ground = colour * inside + ground * (1 - inside)

    for _ in range(3):
        x, y = rng.uniform(6, SIDE - 6, 2)
        paint(np.hypot(textures.X - x, textures.Y - y) - rng.uniform(3, 5))
    angle = np.pi * (direction + rng.uniform(-0.3, 0.3)) / BARS
    x, y = rng.uniform(20, SIDE - 20, 2)
    along = (textures.X - x) * np.cos(angle) + (textures.Y - y) * np.sin(angle)
    across = -(textures.X - x) * np.sin(angle) + (textures.Y - y) * np.cos(angle)
    paint(np.maximum(np.abs(along) - rng.uniform(9, 16), np.abs(across) - rng.uniform(1.5, 3)))
    return np.clip(ground.round(), 0, 255).astype(np.uint8)


def over_photo(rng, field, regions, split):
    """A field in [0, 1] as ink of one colour over a region of a photograph."""
    region = int(rng.integers(len(regions.corners)))
    ground = regions.crop(rng, region, split).astype(np.float32)
    brighter = ground.mean() < 128
    colour = rng.uniform(170, 255, 3) if brighter else rng.uniform(0, 85, 3)
    image = colour * field[..., None] + ground * (1 - field[..., None])
    return np.clip(image.round(), 0, 255).astype(np.uint8)
