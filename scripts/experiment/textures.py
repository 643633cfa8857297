"""Procedural textures: grey fields of 64x64 in [0, 1], and the two or three colours that they are shown in.

Structure tells the classes apart, never colour: colours, contrast, shading and grain are drawn anew for each image.
"""

import numpy as np

SIDE = 64
Y, X = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)


def turned(rng, angle=None):
    """Coordinates in pixels after a turn (radians; any, if none is given) and a random shift."""
    angle = rng.uniform(0, 2 * np.pi) if angle is None else angle
    c, s = np.cos(angle), np.sin(angle)
    u = (X - 32) * c + (Y - 32) * s + rng.uniform(0, 64)
    v = -(X - 32) * s + (Y - 32) * c + rng.uniform(0, 64)
    return u, v


def unit(field):
    """Stretched to [0, 1]."""
    low, high = field.min(), field.max()
    return (field - low) / max(high - low, 1e-6)


def band(rng, low, high, angle=None, spread=0.3):
    """Noise of wavelengths from `high` down to `low` pixels, along one direction if there is an angle."""
    fy, fx = np.fft.fftfreq(SIDE)[:, None], np.fft.fftfreq(SIDE)[None, :]
    f = np.hypot(fx, fy)
    mask = (f >= 1 / high) & (f <= 1 / low)
    if angle is not None:
        away = np.abs((np.arctan2(fy, fx) - angle + np.pi / 2) % np.pi - np.pi / 2)
        mask = mask & (away < spread)
    spectrum = np.fft.fft2(rng.standard_normal((SIDE, SIDE))) * mask
    field = np.fft.ifft2(spectrum).real
    return field / max(field.std(), 1e-6)


def points(rng, count, power=2):
    """The two smallest distances to random points (64 x 64 each), and which point is nearest."""
    p = rng.uniform(-4, 68, (count, 2))
    d = np.abs(X[..., None] - p[:, 0]) ** power + np.abs(Y[..., None] - p[:, 1]) ** power
    d = d ** (1 / power)
    nearest = np.sort(d, axis=-1)
    return nearest[..., 0], nearest[..., 1], d.argmin(-1)


def saw(x, period):
    """0 to 1 in each period."""
    return (x / period) % 1.0


def soft(x, width=1.0):
    """A soft step at 0, `width` pixels wide."""
    return 1 / (1 + np.exp(-np.clip(4 * x / width, -30, 30)))


def lines(rng, count):
    """Distance to the nearest of some random straight lines."""
    least = np.full((SIDE, SIDE), 1e3, np.float32)
    for _ in range(count):
        u, _ = turned(rng)
        least = np.minimum(least, np.abs(u - rng.uniform(0, 64) - rng.uniform(-20, 20)))
    return least


# What the second network is pretrained on.
def stripes(rng):
    return saw(turned(rng)[0], rng.uniform(9, 13)) < rng.uniform(0.35, 0.65)


def ramps(rng):
    return saw(turned(rng)[0], rng.uniform(14, 22))


def checks(rng):
    u, v = turned(rng)
    p = rng.uniform(12, 20)
    return (saw(u, p) < 0.5) ^ (saw(v, p) < 0.5)


def blobs(rng):
    return soft(band(rng, 14, 40) - rng.uniform(-0.4, 0.4), 0.4)


def maze(rng):
    return soft(band(rng, 7, 10), 0.4)


def cells(rng):
    _, _, index = points(rng, int(rng.integers(14, 26)))
    return rng.uniform(0, 1, 32)[index]


def cell_edges(rng):
    first, second, _ = points(rng, int(rng.integers(14, 26)))
    return soft(rng.uniform(1.5, 3) - (second - first))


def dots(rng):
    u, v = turned(rng)
    p = rng.uniform(11, 17)
    return soft(p * rng.uniform(0.2, 0.35) - np.hypot(saw(u, p) - 0.5, saw(v, p) - 0.5) * p)


def rings(rng):
    r = np.hypot(X - rng.uniform(0, 64), Y - rng.uniform(0, 64))
    return saw(r, rng.uniform(9, 15)) < 0.5


def clouds(rng):
    return sum(band(rng, low, 2 * low) * low for low in (4, 8, 16, 32))


def bricks(rng):
    u, v = turned(rng)
    p = rng.uniform(8, 12)
    row = np.floor(v / p)
    return (saw(u + (row % 2) * p, 2 * p) < 0.1) | (saw(v, p) < 0.18)


def waves(rng):
    u, v = turned(rng)
    return soft(np.sin((u + 5 * np.sin(v / rng.uniform(4, 6))) * 2 * np.pi / rng.uniform(11, 15)), 0.8)


def needles(rng):
    return soft(1.5 - lines(rng, int(rng.integers(9, 14))))


def spots(rng):
    first, _, _ = points(rng, int(rng.integers(12, 24)))
    return soft(rng.uniform(4, 6) - first)


def grid(rng):
    u, v = turned(rng)
    p = rng.uniform(12, 18)
    return (saw(u, p) < 0.2) | (saw(v, p) < 0.2)


def grain(rng):
    return rng.uniform(0, 1, (SIDE // 4, SIDE // 4)).repeat(4, 0).repeat(4, 1)


# Other textures, for tasks.
def weave(rng):
    u, v = turned(rng)
    p = rng.uniform(10, 14)
    over = (np.floor(u / p) + np.floor(v / p)) % 2
    return np.where(over > 0, np.sin(np.pi * saw(u, p)), 0.6 * np.sin(np.pi * saw(v, p)))


def scales(rng):
    u, v = turned(rng)
    p = rng.uniform(12, 18)
    row = np.floor(v / (p / 2))
    return np.hypot(saw(u + (row % 2) * p / 2, p) - 0.5, saw(v, p / 2) * 0.7)


def zigzag(rng):
    u, v = turned(rng)
    p = rng.uniform(12, 18)
    return saw(v + np.abs(saw(u, p) - 0.5) * p, rng.uniform(9, 13)) < 0.5


def plaid(rng):
    u, v = turned(rng)
    p = rng.uniform(14, 20)
    return 1.0 * (saw(u, p) < 0.5) + (saw(v, p) < 0.5)


def triangles(rng):
    u, v = turned(rng)
    p = rng.uniform(13, 19)
    return saw(u, p) < saw(v, p)


def bent(rng):
    u, _ = turned(rng)
    return soft(np.sin((u + 6 * band(rng, 20, 60)) * 2 * np.pi / rng.uniform(9, 13)), 0.8)


def fur(rng):
    return band(rng, 5, 40, angle=rng.uniform(0, np.pi), spread=0.15)


def camouflage(rng):
    field = band(rng, 12, 30)
    return 0.5 * (field > -0.5) + 0.5 * (field > 0.5)


def swirl(rng):
    x, y = X - rng.uniform(20, 44), Y - rng.uniform(20, 44)
    return saw(np.arctan2(y, x) / (2 * np.pi) * int(rng.integers(2, 5)) + np.hypot(x, y) / rng.uniform(12, 18), 1) < 0.5


def stars(rng):
    first, _, _ = points(rng, int(rng.integers(12, 20)), power=0.5)
    return soft(rng.uniform(9, 13) - first, 2)


# A third set.
def ripples(rng):
    field = sum(np.sin(np.hypot(X - rng.uniform(-20, 84), Y - rng.uniform(-20, 84)) * 0.6) for _ in range(2))
    return field


def marble(rng):
    u, _ = turned(rng)
    return np.abs(np.sin((u + 8 * band(rng, 16, 60)) * np.pi / 20))


def mosaic(rng):
    u, v = turned(rng)
    p = rng.uniform(9, 14)
    key = (np.floor(u / p) * 7 + np.floor(v / p) * 13).astype(int) % 64
    return rng.uniform(0, 1, 64)[key]


def confetti(rng):
    field = np.zeros((SIDE, SIDE), np.float32)
    for _ in range(int(rng.integers(25, 40))):
        u, v = turned(rng)
        a, b = rng.uniform(10, 90, 2)
        field[(np.abs(u - a) < 4) & (np.abs(v - b) < 1.8)] = rng.uniform(0.4, 1)
    return field


def diamonds(rng):
    first, _, _ = points(rng, int(rng.integers(12, 20)), power=1)
    return soft(rng.uniform(5, 7) - first)


def arcs(rng):
    u, v = turned(rng)
    p = rng.uniform(14, 20)
    return saw(np.hypot(saw(u, p) - 0.5, saw(v, p) - 0.5) * 4, 1) < 0.4


def terraces(rng):
    return saw(band(rng, 16, 60) * 1.5, 1)


def crosses(rng):
    u, v = turned(rng)
    p = rng.uniform(13, 18)
    a, b = np.abs(saw(u, p) - 0.5), np.abs(saw(v, p) - 0.5)
    return ((a < 0.1) & (b < 0.35)) | ((b < 0.1) & (a < 0.35))


def shards(rng):
    u, _ = turned(rng)
    _, _, index = points(rng, 12)
    return saw(u * rng.choice([-1, 1], 12)[index] + rng.uniform(0, 9, 12)[index], 9) < 0.5


def worms(rng):
    return np.abs(band(rng, 12, 24)) < 0.35


# A fourth set.
def hexagons(rng):
    u, v = turned(rng)
    p = rng.uniform(13, 19)
    w = u * np.cos(np.pi / 3) + v * np.sin(np.pi / 3)
    x = u * np.cos(np.pi / 3) - v * np.sin(np.pi / 3)
    return np.cos(2 * np.pi * u / p) + np.cos(2 * np.pi * w / p) + np.cos(2 * np.pi * x / p)


def truchet(rng):
    u, v = turned(rng)
    p = rng.uniform(10, 15)
    flip = rng.uniform(0, 1, 64)[(np.floor(u / p) * 11 + np.floor(v / p) * 5).astype(int) % 64] < 0.5
    a, b = saw(u, p), saw(v, p)
    a = np.where(flip, 1 - a, a)
    return soft(2 - p * np.minimum(np.abs(np.hypot(a, b) - 0.5), np.abs(np.hypot(1 - a, 1 - b) - 0.5)))


def rain(rng):
    field = np.zeros((SIDE, SIDE), np.float32)
    u, v = turned(rng)
    for _ in range(int(rng.integers(40, 60))):
        a, b = rng.uniform(-30, 130, 2)
        field = np.maximum(field, (np.abs(u - a) < 1.3) * (np.abs(v - b) < rng.uniform(5, 10)))
    return field


def bubbles(rng):
    field = np.zeros((SIDE, SIDE), np.float32)
    for _ in range(int(rng.integers(14, 22))):
        x, y, r = rng.uniform(-4, 68), rng.uniform(-4, 68), rng.uniform(4, 11)
        field = np.maximum(field, soft(1.2 - np.abs(np.hypot(X - x, Y - y) - r)))
    return field


def moire(rng):
    u, _ = turned(rng)
    v, _ = turned(rng)
    return (saw(u, rng.uniform(6, 8)) < 0.5) ^ (saw(v, rng.uniform(6, 8)) < 0.5)


def halftone(rng):
    u, v = turned(rng)
    p = rng.uniform(7, 9)
    size = 0.12 + 0.35 * unit(band(rng, 30, 80))
    return soft(p * size - p * np.hypot(saw(u, p) - 0.5, saw(v, p) - 0.5))


def contours(rng):
    return np.abs(saw(band(rng, 18, 60) * 2.5, 1) - 0.5) < 0.12


def patches(rng):
    u, v = turned(rng)
    p = rng.uniform(18, 26)
    across = (np.floor(u / p) + np.floor(v / p)) % 2 > 0
    return saw(np.where(across, u, v), rng.uniform(5, 7)) < 0.5


def flames(rng):
    u, v = turned(rng)
    return unit(band(rng, 10, 30, angle=rng.uniform(0, np.pi), spread=0.5)) * saw(v, rng.uniform(24, 34))


def thorns(rng):
    u, v = turned(rng)
    p = rng.uniform(14, 20)
    return np.abs(saw(v, p) - 0.5) * 2 < 0.15 + 0.6 * np.maximum(0, 1 - saw(u, p / 2) * 2.2)


# A fifth set.
def chevrons(rng):
    u, v = turned(rng)
    p = rng.uniform(16, 24)
    tip = np.floor(v / p) % 2
    return saw(u + np.where(tip > 0, 1, -1) * saw(v, p) * p * 0.6, rng.uniform(9, 12)) < 0.45


def pebbles(rng):
    first, second, index = points(rng, int(rng.integers(18, 30)))
    return soft(second - first - 2) * rng.uniform(0.4, 1, 32)[index]


def feathers(rng):
    u, v = turned(rng)
    p = rng.uniform(14, 20)
    return saw(np.abs(saw(u, p) - 0.5) * 2 * p + v, rng.uniform(4.5, 6)) < 0.5


def lattice(rng):
    u, v = turned(rng)
    p = rng.uniform(13, 18)
    ring = np.abs(np.hypot(saw(u, p) - 0.5, saw(v, p) - 0.5) * p - 0.42 * p)
    return soft(1.3 - ring)


def cracks(rng):
    first, second, _ = points(rng, int(rng.integers(9, 14)))
    return soft(1.2 - (second - first) - 0.6 * band(rng, 4, 9))


def dunes(rng):
    u, _ = turned(rng)
    return saw(u + 5 * band(rng, 24, 70), rng.uniform(11, 16)) ** 2


def knots(rng):
    u, v = turned(rng)
    p = rng.uniform(15, 21)
    return np.sin(2 * np.pi * (u + 4 * np.sin(2 * np.pi * v / p)) / p) * np.sin(2 * np.pi * (v + 4 * np.sin(2 * np.pi * u / p)) / p)


def barcode(rng):
    u, _ = turned(rng)
    widths = rng.uniform(1.5, 7, 60).cumsum()
    return np.searchsorted(widths, u % widths[-1]) % 2


def foam(rng):
    first, _, _ = points(rng, int(rng.integers(30, 50)))
    return first / max(first.max(), 1e-6)


def corners(rng):
    u, v = turned(rng)
    p = rng.uniform(11, 16)
    return saw(np.maximum(np.abs(saw(u, 2 * p) - 0.5), np.abs(saw(v, 2 * p) - 0.5)) * 4, 1) < 0.4


# A sixth set, for the tasks that are held out: two fields at once.
def combs(rng):
    u, v = turned(rng)
    p = rng.uniform(14, 20)
    return (saw(u, rng.uniform(5, 7)) < 0.5) & (saw(v, p) < 0.55)


def bullets(rng):
    u, v = turned(rng)
    p = rng.uniform(12, 16)
    d = np.hypot(saw(u, p) - 0.5, saw(v, p) - 0.5) * p
    return soft(0.4 * p - d) * (1 - 0.7 * soft(0.2 * p - d))


def ladders(rng):
    u, v = turned(rng)
    p = rng.uniform(15, 20)
    rails = np.abs(saw(u, p) - 0.5) > 0.36
    return rails | ((saw(v, rng.uniform(7, 9)) < 0.3) & (np.floor(u / p) % 2 > 0))


def islands(rng):
    field = band(rng, 12, 36)
    return soft(field - 0.2, 0.3) * (0.5 + 0.5 * (np.abs(saw(field * 2, 1) - 0.5) < 0.2))


def threads(rng):
    u, v = turned(rng)
    return soft(np.sin(u * 2 * np.pi / rng.uniform(5, 6.5)) + band(rng, 20, 60) * 0.7, 0.6)


def tiles(rng):
    u, v = turned(rng)
    p = rng.uniform(13, 18)
    inner = rng.uniform(0, 1, 64)[(np.floor(u / p) * 3 + np.floor(v / p) * 17).astype(int) % 64]
    return np.where((saw(u, p) < 0.14) | (saw(v, p) < 0.14), 0, 0.3 + 0.7 * inner)


def sparks(rng):
    first, _, _ = points(rng, int(rng.integers(20, 34)), power=0.6)
    return soft(rng.uniform(5, 7) - first, 3)


def rapids(rng):
    u, v = turned(rng)
    return saw(u + 6 * band(rng, 12, 30) * saw(v, 40), rng.uniform(12, 16)) < 0.5


def arches(rng):
    u, v = turned(rng)
    p = rng.uniform(13, 18)
    return saw(np.hypot((saw(u, p) - 0.5) * p, saw(v, p / 2) * p / 2), rng.uniform(3.5, 4.5)) < 0.5


def peel(rng):
    return unit(band(rng, 5, 8)) ** 2 + 0.8 * (np.abs(band(rng, 20, 40)) < 0.2)


# A seventh set, for the tasks that are held out: what is laid, blown or grown.
def parquet(rng):
    u, v = turned(rng)
    p = rng.uniform(15, 20)
    across = (np.floor(u / p) + np.floor(v / p)) % 2 > 0
    return saw(np.where(across, u, v), p / rng.integers(3, 5)) < 0.7


def snow(rng):
    first, _, _ = points(rng, int(rng.integers(50, 80)))
    return soft(rng.uniform(1, 2) - first) + 0.3 * unit(band(rng, 20, 50))


def roofs(rng):
    u, v = turned(rng)
    p = rng.uniform(10, 14)
    row = np.floor(v / p)
    return saw(v, p) * (0.6 + 0.4 * (np.abs(saw(u + row % 2 * p / 2, p) - 0.5) < 0.4))


def kelp(rng):
    u, v = turned(rng)
    return soft(np.sin((u + 5 * np.sin(v / rng.uniform(6, 9))) * 2 * np.pi / rng.uniform(14, 19)), 0.5)


def lace(rng):
    u, v = turned(rng)
    p = rng.uniform(12, 17)
    r = np.hypot(saw(u, p) - 0.5, saw(v, p) - 0.5)
    turn = np.arctan2(saw(v, p) - 0.5, saw(u, p) - 0.5)
    return soft((0.33 + 0.1 * np.cos(6 * turn) - r) * p) * soft((r - 0.14) * p)


def planks(rng):
    u, v = turned(rng)
    p = rng.uniform(11, 16)
    grain_of = band(rng, 3, 30, rng.uniform(0, np.pi), 0.25)
    return unit(grain_of) * 0.5 + 0.5 * (saw(u, p) > 0.12)


def lichen(rng):
    first, second, _ = points(rng, int(rng.integers(10, 18)))
    return soft(8 - first + 3 * band(rng, 5, 12), 2) * soft(second - first - 1)


def mesh(rng):
    u, v = turned(rng)
    p = rng.uniform(8, 12)
    bent_by = 3 * band(rng, 24, 50)
    return np.minimum(np.abs(saw(u + bent_by, p) - 0.5), np.abs(saw(v + bent_by, p) - 0.5)) < 0.12


def eddies(rng):
    first, _, index = points(rng, int(rng.integers(5, 9)))
    return saw(first + 3 * rng.uniform(-1, 1, 16)[index], rng.uniform(5, 7)) < 0.5


def scraps(rng):
    field = np.zeros((SIDE, SIDE))
    for _ in range(int(rng.integers(14, 22))):
        u, v = turned(rng)
        near = (np.abs(u - u.mean() - rng.uniform(-30, 30)) < rng.uniform(3, 7)) & (np.abs(v - v.mean() - rng.uniform(-30, 30)) < rng.uniform(3, 9))
        field = np.where(near, rng.uniform(0.2, 1), field)
    return field


# An eighth set, for the tasks that are held out: what is sewn, poured or forged.
def tweed(rng):
    u, v = turned(rng)
    p = rng.uniform(5, 7)
    column = np.floor(u / (4 * p))
    return saw(v + np.where(column % 2 > 0, u, -u), p) + 0.6 * (rng.uniform(size=(SIDE, SIDE)) < 0.15)


def gravel(rng):
    first, second, index = points(rng, int(rng.integers(60, 110)))
    return soft(second - first - 0.8) * rng.uniform(0.3, 1, 128)[index]


def quilt(rng):
    u, v = turned(rng)
    p = rng.uniform(14, 19)
    a, b = saw(u, p) - 0.5, saw(v, p) - 0.5
    return np.maximum(1 - 2.4 * np.hypot(a, b), 0) + (np.minimum(0.5 - np.abs(a), 0.5 - np.abs(b)) < 0.05)


def smoke(rng):
    field = sum(band(rng, low, 2 * low) * low for low in (5, 10, 20))
    return unit(np.sin(1.5 * field / field.std()))


def webs(rng):
    x, y = rng.uniform(-6, 70, 2)
    r, turn = np.hypot(X - x, Y - y), np.arctan2(Y - y, X - x)
    spokes = rng.integers(14, 22)
    sag = 1 + 0.15 * np.abs(np.sin(spokes * turn / 2))
    ring = np.abs(saw(r * sag, rng.uniform(7, 10)) - 0.5) > 0.42
    return ring | (np.abs(saw(turn, 2 * np.pi / spokes) - 0.5) > 0.5 - 0.7 / np.maximum(r, 2))


def rivets(rng):
    u, v = turned(rng)
    p = rng.uniform(15, 20)
    a, b = (saw(u, p) - 0.5) * p, (saw(v, p) - 0.5) * p
    seam = 0.5 * (np.abs(saw(u + p / 2, p) - 0.5) * p < 1)
    return seam + soft(rng.uniform(2.2, 3.2) - np.hypot(a, b)) * unit(a + b)


def furrows(rng):
    u, v = turned(rng)
    way = u + 4 * band(rng, 25, 50)
    return unit(np.abs(np.sin(np.pi * way / rng.uniform(7, 10)))) ** rng.uniform(2, 4) + 0.3 * band(rng, 2, 4)


def splashes(rng):
    field = np.zeros((SIDE, SIDE))
    for _ in range(int(rng.integers(5, 9))):
        x, y = rng.uniform(0, 64, 2)
        turn = np.arctan2(Y - y, X - x)
        edge = rng.uniform(4, 8) * (1 + 0.35 * np.cos(rng.integers(5, 10) * turn + rng.uniform(0, 6)))
        field = np.maximum(field, soft(edge - np.hypot(X - x, Y - y)))
    return field


def gratings(rng):
    u, v = turned(rng)
    p = rng.uniform(16, 22)
    fan = (np.floor(u / p) * 5 + np.floor(v / p) * 3) % 4 * np.pi / 4
    return saw(u * np.cos(fan) + v * np.sin(fan), rng.uniform(4, 5.5)) < 0.5


def coils(rng):
    u, v = turned(rng)
    p = rng.uniform(16, 22)
    a, b = (saw(u, p) - 0.5) * p, (saw(v, p) - 0.5) * p
    return saw(np.hypot(a, b) + np.arctan2(b, a) * rng.choice([-1, 1]) * 0.8, 5) < 0.5


PRETRAINING = (stripes, ramps, checks, blobs, maze, cells, cell_edges, dots, rings, clouds, bricks, waves, needles, spots, grid, grain)
SECOND = (weave, scales, zigzag, plaid, triangles, bent, fur, camouflage, swirl, stars)
THIRD = (ripples, marble, mosaic, confetti, diamonds, arcs, terraces, crosses, shards, worms)
FOURTH = (hexagons, truchet, rain, bubbles, moire, halftone, contours, patches, flames, thorns)
FIFTH = (chevrons, pebbles, feathers, lattice, cracks, dunes, knots, barcode, foam, corners)
SIXTH = (combs, bullets, ladders, islands, threads, tiles, sparks, rapids, arches, peel)
SEVENTH = (parquet, snow, roofs, kelp, lace, planks, lichen, mesh, eddies, scraps)
EIGHTH = (tweed, gravel, quilt, smoke, webs, rivets, furrows, splashes, gratings, coils)


def mixed(over, under):
    """One family's texture where another one's is dark."""

    def draw(rng):
        first, second = (unit(np.asarray(family(rng), np.float32)) for family in (over, under))
        return np.maximum(first, 0.6 * second * (first < 0.5))

    draw.__name__ = f"{over.__name__}_{under.__name__}"
    return draw


MIXED = tuple(mixed(over, under) for over, under in zip(SECOND, THIRD))


def colours(rng):
    """Two colours that differ in brightness by a third at least; either may be the darker one."""
    while True:
        pair = rng.uniform(0, 1, (2, 3))
        if abs(pair[0].mean() - pair[1].mean()) > 0.3:
            return pair


def coloured(rng, field, pair=None):
    """A field as an RGB image (64 x 64 x 3, 8 bits), shaded and with grain."""
    field = unit(np.asarray(field, np.float32))[..., None]
    first, second = colours(rng) if pair is None else pair
    shade = 1 + 0.25 * unit(band(rng, 40, 80))[..., None] * rng.choice([-1, 1])
    image = (first * field + second * (1 - field)) * shade
    image = image + rng.standard_normal(image.shape) * rng.uniform(0.01, 0.06)
    return (np.clip(image, 0, 1) * 255).round().astype(np.uint8)
