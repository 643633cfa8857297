"""Tasks that are neither letters nor textures: crops of the two photographs, shapes, discs, bars, and
drawings of strokes."""

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


def strokes(segments, width):
    """Line segments ((x, y), (x, y)), in pixels, as ink of one width: 64 x 64, in [0, 1]."""
    least = np.full((SIDE, SIDE), 1e3, np.float32)
    for (x0, y0), (x1, y1) in segments:
        along = np.array((x1 - x0, y1 - y0))
        share = ((textures.X - x0) * along[0] + (textures.Y - y0) * along[1]) / max(along @ along, 1e-6)
        share = np.clip(share, 0, 1)
        least = np.minimum(least, np.hypot(textures.X - x0 - share * along[0], textures.Y - y0 - share * along[1]))
    return textures.soft(width - least)


def arc(x, y, radius, start, end):
    """An arc (radians, clockwise from the right) as line segments."""
    angles = np.linspace(start, end, 13)
    corners = [(x + radius * np.cos(a), y + radius * np.sin(a)) for a in angles]
    return list(zip(corners, corners[1:]))


RUNES = 10


def rune(rng, number):
    """A character of an alphabet that nobody writes: four strokes between nine places, written with a shaking hand."""
    alphabet = np.random.default_rng([ord(c) for c in "runes"] + [number])
    places = [(u, v) for u in (-1, 0, 1) for v in (-1, 0, 1)]
    path = [places[i] for i in alphabet.permutation(9)[:5]]
    size, angle = rng.uniform(10, 18), rng.uniform(-0.25, 0.25)
    x, y = rng.uniform(size + 6, SIDE - size - 6, 2)
    c, s = np.cos(angle) * size, np.sin(angle) * size
    hand = [(u + du, v + dv) for (u, v), (du, dv) in zip(path, rng.normal(0, 0.12, (5, 2)))]
    ends = [(x + u * c - v * s, y + u * s + v * c) for u, v in hand]
    return strokes(list(zip(ends, ends[1:])), rng.uniform(1, 2.2))


HOURS = 12


def clock(rng, hour):
    """A dial whose short hand shows one of HOURS hours, and whose long hand shows any minute."""
    radius = rng.uniform(17, 27)
    x, y = rng.uniform(radius + 3, SIDE - radius - 3, 2)
    minute = rng.uniform(0, 1)

    def hand(turn, length):
        angle = 2 * np.pi * turn - np.pi / 2
        return [((x, y), (x + radius * length * np.cos(angle), y + radius * length * np.sin(angle)))]

    dial = arc(x, y, radius, 0, 2 * np.pi) + hand(minute, 0.85)
    thin = strokes(dial, rng.uniform(0.6, 1.1))
    return np.maximum(thin, strokes(hand((hour + minute) / HOURS, 0.5), rng.uniform(1.6, 2.4)))


# Mouths (an arc's start and end, in turns, and its height), and whether the eyes are open.
MOODS = [(mouth, eyes) for mouth in ("smile", "frown", "flat", "round") for eyes in ("open", "shut")]


def face(rng, mood):
    """A drawn face: one of four mouths and one of two kinds of eyes."""
    mouth, eyes = MOODS[mood]
    radius = rng.uniform(16, 26)
    x, y = rng.uniform(radius + 3, SIDE - radius - 3, 2)
    segments = arc(x, y, radius, 0, 2 * np.pi)
    apart, high = radius * rng.uniform(0.35, 0.45), y - radius * rng.uniform(0.2, 0.35)
    for side in (-1, 1):
        if eyes == "open":
            segments += arc(x + side * apart, high, radius * 0.14, 0, 2 * np.pi)
        else:
            segments.append(((x + side * apart - radius * 0.18, high), (x + side * apart + radius * 0.18, high)))
    wide, low = radius * rng.uniform(0.4, 0.55), y + radius * rng.uniform(0.3, 0.45)
    if mouth == "smile":
        segments += arc(x, low - wide * 0.6, wide, 0.15 * np.pi, 0.85 * np.pi)
    elif mouth == "frown":
        segments += arc(x, low + wide * 0.7, wide, 1.15 * np.pi, 1.85 * np.pi)
    elif mouth == "round":
        segments += arc(x, low, radius * 0.2, 0, 2 * np.pi)
    else:
        segments.append(((x - wide, low), (x + wide, low)))
    return strokes(segments, rng.uniform(0.8, 1.6))


ARROWS = 8


def arrow(rng, direction):
    """An arrow of two strokes and a shaft that points in one of ARROWS directions."""
    angle = 2 * np.pi * (direction + rng.uniform(-0.25, 0.25)) / ARROWS
    length, head = rng.uniform(11, 20), rng.uniform(0.35, 0.6)
    x, y = rng.uniform(length + 3, SIDE - length - 3, 2)
    c, s = np.cos(angle) * length, np.sin(angle) * length
    tip, tail = (x + c, y + s), (x - c, y - s)
    wings = [(tip[0] - head * (c * u - s * v), tip[1] - head * (s * u + c * v)) for u, v in ((1, 0.7), (1, -0.7))]
    return strokes([(tail, tip), *((tip, wing) for wing in wings)], rng.uniform(0.9, 2))


CORNERS = range(3, 9)


def corners(rng, count):
    """The outline of a polygon with `count` corners, at uneven angles and distances."""
    step = 2 * np.pi / count
    angles = rng.uniform(0, 2 * np.pi) + step * (np.arange(count) + rng.uniform(-0.2, 0.2, count))
    size = rng.uniform(13, 24)
    x, y = rng.uniform(size + 3, SIDE - size - 3, 2)
    radii = size * rng.uniform(0.85, 1, count)
    ends = [(x + r * np.cos(a), y + r * np.sin(a)) for r, a in zip(radii, angles)]
    return strokes(list(zip(ends, ends[1:] + ends[:1])), rng.uniform(0.8, 1.8))


# Places of the pips on a die's face, by their number.
PIPS = {
    1: ((0, 0),),
    2: ((-1, -1), (1, 1)),
    3: ((-1, -1), (0, 0), (1, 1)),
    4: ((-1, -1), (-1, 1), (1, -1), (1, 1)),
    5: ((-1, -1), (-1, 1), (0, 0), (1, -1), (1, 1)),
    6: ((-1, -1), (-1, 0), (-1, 1), (1, -1), (1, 0), (1, 1)),
}


def die(rng, pips):
    """One face of a die, of any size and turn: its outline and its pips."""
    size, angle = rng.uniform(11, 19), rng.uniform(0, 2 * np.pi)
    x, y = rng.uniform(size * 1.3 + 2, SIDE - size * 1.3 - 2, 2)
    c, s = np.cos(angle) * size, np.sin(angle) * size
    at = lambda u, v: (x + u * c - v * s, y + u * s + v * c)  # noqa: E731
    ends = [at(u, v) for u, v in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    field = strokes(list(zip(ends, ends[1:] + ends[:1])), rng.uniform(0.6, 1.2))
    apart, radius = rng.uniform(0.45, 0.58), size * rng.uniform(0.12, 0.17)
    for u, v in PIPS[pips]:
        left, top = at(u * apart, v * apart)
        field = np.maximum(field, textures.soft(radius - np.hypot(textures.X - left, textures.Y - top)))
    return field


CURVES = ("sine", "square", "triangle", "saw", "damped", "chirp", "pulses", "steps")


def curve(rng, kind):
    """A curve from the left to the right edge, of one of CURVES kinds, of any height and period, with a trembling hand."""
    t = np.linspace(0, 1, 90)
    turns, phase = rng.uniform(2.5, 4.5), rng.uniform(0, 1)
    wave = (t * turns + phase) % 1
    values = {
        "sine": np.sin(2 * np.pi * wave),
        "square": np.where(wave < 0.5, 1, -1),
        "triangle": 1 - 4 * np.abs(wave - 0.5),
        "saw": 2 * wave - 1,
        "damped": 1.2 * np.exp(-2.5 * t) * np.sin(2 * np.pi * wave),
        "chirp": np.sin(2 * np.pi * (1.2 * turns * t**2 + phase)),
        "pulses": np.where(wave < 0.15, 1, -0.8),
        "steps": 2 * np.floor(t * rng.integers(4, 7) + phase) / 6 - 1,
    }[kind]
    high, middle = rng.uniform(9, 20), rng.uniform(24, 40)
    heights = middle - high * values * rng.choice([-1, 1]) + rng.normal(0, 0.4, len(t))
    ends = list(zip(2 + t * (SIDE - 4), np.clip(heights, 1, SIDE - 2)))
    return strokes(list(zip(ends, ends[1:])), rng.uniform(0.7, 1.6))


TALLIES = range(2, 9)


def tally(rng, count):
    """`count` strokes side by side, each a little askew, in a row of any place, height and turn."""
    high, apart = rng.uniform(8, 14), rng.uniform(4.6, 6)
    angle = rng.uniform(-0.5, 0.5)
    c, s = np.cos(angle), np.sin(angle)
    half = apart * (count - 1) / 2
    x = rng.uniform(half + 6, SIDE - half - 6) if half < 25 else SIDE / 2
    y = rng.uniform(high + 8, SIDE - high - 8)
    segments = []
    for place in range(count):
        u, lean = place * apart - half + rng.normal(0, 0.4), rng.normal(0, 0.12)
        ends = [(u + lean * v, v) for v in (-high * rng.uniform(0.85, 1), high * rng.uniform(0.85, 1))]
        segments.append(tuple((x + a * c - b * s, y + a * s + b * c) for a, b in ends))
    return strokes(segments, rng.uniform(0.8, 1.5))


# Roofs, and where the chimney stands.
HOUSES = [(roof, chimney) for roof in ("gable", "flat", "shed") for chimney in ("left", "right", "none")]


def house(rng, kind):
    """A drawn house with a door and a window, one of three roofs, and a chimney or none."""
    roof, chimney = HOUSES[kind]
    wide, high = rng.uniform(10, 17), rng.uniform(7, 12)
    x, y = rng.uniform(wide + 4, SIDE - wide - 4), rng.uniform(SIDE / 2, SIDE - high - 3)
    left, right, top, floor = x - wide, x + wide, y - high, y + high
    peak = top - rng.uniform(7, 12)
    segments = [((left, top), (left, floor)), ((left, floor), (right, floor)), ((right, floor), (right, top))]
    if roof == "gable":
        segments += [((left, top), (x, peak)), ((x, peak), (right, top))]
    elif roof == "flat":
        segments.append(((left - 2, top), (right + 2, top)))
    else:
        segments += [((left, top), (left, peak)), ((left, peak), (right, top))]
    if chimney != "none":
        at = x + wide * rng.uniform(0.45, 0.7) * (1 if chimney == "right" else -1)
        tip = peak - rng.uniform(1, 4)
        segments += [((at - 1.5, tip), (at + 1.5, tip)), ((at - 1.5, tip), (at - 1.5, top)), ((at + 1.5, tip), (at + 1.5, top))]
    door = x + wide * rng.uniform(-0.6, 0.1)
    segments += [((door, floor), (door, y)), ((door, y), (door + wide * 0.35, y)), ((door + wide * 0.35, y), (door + wide * 0.35, floor))]
    return strokes(segments, rng.uniform(0.7, 1.4))


def scrambled(rng, image):
    """The sixteen tiles of an image in a random order."""
    tiles = image.reshape(4, 16, 4, 16, 3).swapaxes(1, 2).reshape(16, 16, 16, 3)[rng.permutation(16)]
    return tiles.reshape(4, 4, 16, 16, 3).swapaxes(1, 2).reshape(SIDE, SIDE, 3)


FLAGS = ("bands", "pales", "cross", "saltire", "disc", "pile", "quarters", "canton")


def flag(rng, pattern):
    """A flag of two colours, of any size and turn, with one of FLAGS patterns."""
    wide, high, angle = rng.uniform(15, 23), rng.uniform(10, 14), rng.uniform(-0.5, 0.5)
    x, y = rng.uniform(26, SIDE - 26, 2)
    c, s = np.cos(angle), np.sin(angle)
    u = ((textures.X - x) * c + (textures.Y - y) * s) / wide
    v = (-(textures.X - x) * s + (textures.Y - y) * c) / high
    arm = rng.uniform(0.16, 0.26)
    count = int(rng.integers(2, 4))
    marked = {
        "bands": (v + 1) * (count + 0.5) % 2 < 1,
        "pales": (u + 1) * (count + 0.5) % 2 < 1,
        "cross": (np.abs(u + 0.3) < arm) | (np.abs(v) < arm),
        "saltire": np.minimum(np.abs(u - v), np.abs(u + v)) < 1.3 * arm,
        "disc": np.hypot(u * wide / high, v) < rng.uniform(0.45, 0.65),
        "pile": u < rng.uniform(-0.1, 0.3) - np.abs(v) * rng.uniform(0.9, 1.1),
        "quarters": u * v > 0,
        "canton": (u < rng.uniform(-0.2, 0.1)) & (v < rng.uniform(-0.1, 0.15)),
    }[pattern]
    inside = np.maximum(np.abs(u), np.abs(v))
    field = np.where(marked, 1.0, 0.45) if rng.uniform() < 0.5 else np.where(marked, 0.45, 1.0)
    return field * textures.soft((1 - inside) * high)


LEAVES = ("oval", "heart", "lobed", "toothed", "fan", "needles", "lance", "star")


def leaf(rng, kind):
    """The outline of a leaf of one of LEAVES kinds with its stalk, of any size and turn."""
    turn = np.linspace(-np.pi, np.pi, 120)
    wide = rng.uniform(0.5, 0.7)
    size = rng.uniform(12, 20)
    if kind == "needles":
        pairs = [(t, side) for t in np.linspace(-0.9, 0.9, int(rng.integers(5, 8))) for side in (-1, 1)]
        ends = [((t, 0), (t + 0.35, side * rng.uniform(0.45, 0.6))) for t, side in pairs] + [((-1, 0), (1.1, 0))]
    else:
        r = {
            "oval": np.ones_like(turn),
            "heart": 0.55 + 0.55 * np.abs(np.cos(turn / 2)) - 0.4 * np.exp(-((np.abs(turn) - np.pi) ** 2) * 12),
            "lobed": 0.8 + 0.25 * np.cos(7 * turn),
            "toothed": 0.85 + 0.15 * np.abs((turn * 11 / np.pi) % 2 - 1),
            "fan": np.where(np.abs(turn) < 1.1, 1.1, 0.3),
            "lance": 1.1 / (1 + 1.8 * np.abs(np.sin(turn))),
            "star": 0.55 + 0.5 * np.abs(np.cos(2.5 * turn)) ** 3,
        }[kind]
        flat = 1 if kind in ("lobed", "fan", "star") else 1.3 if kind == "heart" else wide
        around = list(zip(r * np.cos(turn), r * np.sin(turn) * flat))
        ends = list(zip(around, around[1:])) + [((-0.9, 0), (0.4, 0))]
    ends.append(((-1.5, rng.uniform(-0.15, 0.15)), (-0.9, 0)))
    angle = rng.uniform(0, 2 * np.pi)
    c, s = np.cos(angle) * size, np.sin(angle) * size
    x, y = rng.uniform(size * 1.3 + 2, SIDE - size * 1.3 - 2, 2) if size < 22 else (SIDE / 2, SIDE / 2)
    placed = [tuple((x + u * c - v * s, y + u * s + v * c) for u, v in segment) for segment in ends]
    return strokes(placed, rng.uniform(0.7, 1.3))


def swirled(rng, image):
    """An image turned the more the nearer to its middle, by up to two thirds of a turn there."""
    x, y = textures.X - SIDE / 2, textures.Y - SIDE / 2
    r, turn = np.hypot(x, y), np.arctan2(y, x)
    turn = turn + rng.choice([-1, 1]) * rng.uniform(2.5, 4) * np.exp(-r / rng.uniform(12, 18))
    column = np.clip(SIDE / 2 + r * np.cos(turn), 0, SIDE - 1).round().astype(int)
    row = np.clip(SIDE / 2 + r * np.sin(turn), 0, SIDE - 1).round().astype(int)
    return image[row, column]
