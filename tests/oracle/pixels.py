"""Images of every kind that `tl` decodes, and the pixels that Pillow and torchvision make of them.

    python tests/oracle/pixels.py OUT_DIR                       the committed fixtures: small, in seconds
    python tests/oracle/pixels.py OUT_DIR --many N --photos DIR  N larger images too, cut from DIR's photographs

`expected.csv`: for each image its decoded size, the CRC-32 of its decoded RGB bytes, and the CRC-32 of the pixels
that torchvision's preset hands to normalisation, for three presets. `crops.csv`: the same for
`resized_crop` (and a flip) with given rectangles. `views.csv`: the CRC-32s, sorted, of `ten_crop` after `resize` to a
given scale. `fits.csv`: the same of squashed images (torchvision's `resize` of both sides) and of padded ones
(`ImageOps.pad`): the whole image, the rectangle of `crops.csv`, and the centre and ten crops of a given scale.
`near-*.jp2`, with a `.png` beside each: decoders may differ by a level or two there.
`normalised.csv`: CRC-32 of the float32 tensors. `sampler.csv`: the distribution of RandomResizedCrop's
rectangles.

The reference is Pillow 13 or newer: older versions resize tall images with the passes in the other order.
"""

import argparse
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
import torchvision.transforms.functional as F
from PIL import Image, ImageOps
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms._presets import ImageClassification

BILINEAR, BICUBIC = InterpolationMode.BILINEAR, InterpolationMode.BICUBIC
SMALL = [(16, 14, BILINEAR), (24, 20, BICUBIC), (40, 32, BILINEAR)]
LARGE = [(256, 224, BILINEAR), (232, 224, BICUBIC), (342, 299, BICUBIC)]


# ---------------------------------------------------------------- content


def picture(rng, width, height, channels=3):
    """Waves, a few rectangles and some noise: smooth parts and edges."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    planes = []
    for _ in range(channels):
        a, b, phase = rng.uniform(0.02, 0.4, 2).tolist() + [rng.uniform(0, 6)]
        planes.append(127.5 + 110 * np.sin(a * x + b * y + phase))
    image = np.stack(planes, axis=-1)
    for _ in range(4):
        left, top = int(rng.integers(0, width)), int(rng.integers(0, height))
        image[top : top + max(1, height // 3), left : left + max(1, width // 3)] = rng.uniform(0, 255, channels)
    image += rng.normal(0, 4, image.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def size(rng, low=1, high=64):
    return int(rng.integers(low, high)), int(rng.integers(low, high))


def encode(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def rgb(rng, width, height):
    return Image.fromarray(picture(rng, width, height))


# ---------------------------------------------------------------- PNG

ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(samples, depth, color, interlaced=False, before=b"", after=b""):
    """A PNG of `samples` (height × width × channels integers of `depth` bits)."""
    height, width, channels = samples.shape

    def scanlines(part):
        lines = b""
        for index, row in enumerate(part.reshape(part.shape[0], -1)):
            if depth == 16:
                line = row.astype(">u2").tobytes()
            elif depth == 8:
                line = row.astype(np.uint8).tobytes()
            else:
                bits = ((row[:, None] >> np.arange(depth - 1, -1, -1)) & 1).astype(np.uint8)
                line = np.packbits(bits.ravel()).tobytes()
            step = max(1, depth * channels // 8)
            if index % 2:  # the "sub" filter on every other line
                line = b"\1" + bytes((line[i] - (line[i - step] if i >= step else 0)) & 255 for i in range(len(line)))
            else:
                line = b"\0" + line
            lines += line
        return lines

    if interlaced:
        data = b""
        for left, top, dx, dy in ADAM7:
            part = samples[top::dy, left::dx]
            if part.size:
                data += scanlines(part)
    else:
        data = scanlines(samples)
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, int(interlaced))
    packed = zlib.compress(data, 9)
    half = len(packed) // 2  # two IDAT chunks
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before + chunk(b"IDAT", packed[:half])
        + chunk(b"IDAT", packed[half:]) + after + chunk(b"IEND", b"")
    )


def exif(orientation, order="II", value_type=3):
    mark = "<" if order == "II" else ">"
    value = struct.pack(mark + "HH", orientation, 0) if value_type == 3 else struct.pack(mark + "I", orientation)
    directory = struct.pack(mark + "H", 1) + struct.pack(mark + "HHI", 0x112, value_type, 1) + value
    return order.encode() + struct.pack(mark + "HI", 42, 8) + directory + struct.pack(mark + "I", 0)


def xmp(orientation, attribute=True):
    body = f'tiff:Orientation="{orientation}"' if attribute else f">\n<tiff:Orientation>{orientation}</tiff:Orientation"
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description {body}></rdf:Description></x:xmpmeta>'.encode()


def pngs(rng):
    for interlaced in (False, True):
        tag = "-interlaced" if interlaced else ""
        for depth in (1, 2, 4, 8, 16):
            width, height = size(rng, 5)
            grey = picture(rng, width, height, 1).astype(np.int64)
            grey = grey * 257 + rng.integers(-128, 128, grey.shape) if depth == 16 else grey >> (8 - depth)
            yield f"grey{depth}{tag}.png", png(np.clip(grey, 0, 65535), depth, 0, interlaced)
        for depth in (1, 2, 4, 8):
            width, height = size(rng, 5)
            index = rng.integers(0, 1 << depth, (height, width, 1))
            colors = rng.integers(0, 256, 3 << depth).astype(np.uint8).tobytes()
            clear = rng.integers(0, 256, 1 << depth).astype(np.uint8).tobytes()
            yield f"palette{depth}{tag}.png", png(index, depth, 3, interlaced, chunk(b"PLTE", colors))
            before = chunk(b"PLTE", colors) + chunk(b"tRNS", clear)
            yield f"palette{depth}-clear{tag}.png", png(index, depth, 3, interlaced, before)
        for name, color, channels in (("rgb", 2, 3), ("greyalpha", 4, 2), ("rgba", 6, 4)):
            for depth in (8, 16):
                width, height = size(rng, 3)
                values = picture(rng, width, height, channels).astype(np.int64)
                if depth == 16:
                    values = values * 256 + rng.integers(0, 256, values.shape)
                yield f"{name}{depth}{tag}.png", png(values, depth, color, interlaced)
    values = picture(rng, 21, 17).astype(np.int64)
    key = chunk(b"tRNS", struct.pack(">HHH", *values[3, 3].tolist()))
    yield "rgb-key.png", png(values, 8, 2, before=key)
    yield "grey-key.png", png(values[:, :, :1], 8, 0, before=chunk(b"tRNS", struct.pack(">H", int(values[2, 2, 0]))))
    few = rng.integers(0, 16, (11, 13, 1))
    yield "palette-short.png", png(few, 4, 3, before=chunk(b"PLTE", bytes(range(30))))
    yield "gamma.png", png(values, 8, 2, before=chunk(b"gAMA", struct.pack(">I", 100000)))
    for width, height in ((1, 3000), (3000, 1), (2, 900), (1300, 3)):
        yield f"strip-{width}x{height}.png", png(picture(rng, width, height).astype(np.int64), 8, 2)
    frames = [rgb(rng, 20, 15) for _ in range(3)]
    yield "animated.png", encode(frames[0], "PNG", save_all=True, append_images=frames[1:])
    yield "animated-apart.png", encode(
        frames[0], "PNG", save_all=True, append_images=frames[1:], default_image=True
    )
    for orientation in range(1, 9):
        values = picture(rng, 13, 7).astype(np.int64)
        yield f"exif{orientation}.png", png(values, 8, 2, before=chunk(b"eXIf", exif(orientation)))
    yield "exif-late.png", png(values, 8, 2, after=chunk(b"eXIf", exif(6)))
    text = "\nexif\n%8d\n%s\n" % (len(exif(6)) + 6, (b"Exif\0\0" + exif(6)).hex())
    yield "exif-text.png", png(values, 8, 2, before=chunk(b"tEXt", b"Raw profile type exif\0" + text.encode()))
    packed = b"Raw profile type exif\0\0" + zlib.compress(text.encode())
    yield "exif-ztxt.png", png(values, 8, 2, before=chunk(b"zTXt", packed))
    yield "xmp6.png", png(values, 8, 2, before=chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(6)))


# ---------------------------------------------------------------- BMP


def bmp(width, height, bits, rows, compression=0, palette=b"", masks=b"", header_size=40, colors=0, down=False):
    """`rows` are the pixel bytes as they stand in the file."""
    offset = 14 + header_size + len(masks if header_size == 40 else b"") + len(palette)
    if header_size == 12:
        header = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        tall = -height if down else height
        header = struct.pack("<IiiHHIIiiII", header_size, width, tall, 1, bits, compression, len(rows), 2835, 2835, colors, 0)
        header += masks if header_size > 40 else b""
        header = header.ljust(header_size, b"\0")
        if header_size == 40:
            header += masks
    return b"BM" + struct.pack("<IHHI", offset + len(rows), 0, 0, offset) + header + palette + rows


def padded(row):
    return row + b"\0" * (-len(row) % 4)


def packed_rows(index, bits):
    rows = b""
    for row in index[::-1]:
        spread = ((row[:, None] >> np.arange(bits - 1, -1, -1)) & 1).astype(np.uint8)
        rows += padded(np.packbits(spread.ravel()).tobytes())
    return rows


def runs(index, half, rng):
    """Run-length rows: runs, literals, a delta here and there."""
    out = b""
    for row in index[::-1]:
        x = 0
        while x < len(row):
            run = 1
            while x + run < len(row) and run < 200 and row[x + run] == row[x]:
                run += 1
            if run >= 2 or len(row) - x < 3:
                out += bytes([run, row[x] * 17 if half else row[x]])
                x += run
            elif rng.uniform() < 0.1 and len(row) - x > 4:
                out += bytes([0, 2, 2, 0])
                x += 2
            else:
                count = min(len(row) - x, int(rng.integers(3, 12)))
                values = row[x : x + count].tolist()
                if half:
                    values += [0] * (count % 2)
                    body = bytes(values[i] << 4 | values[i + 1] for i in range(0, len(values), 2))
                else:
                    body = bytes(values)
                out += bytes([0, count]) + body + b"\0" * (len(body) % 2)
                x += count
        out += b"\0\0"
    return out[:-2] + b"\0\1"


def bmps(rng):
    for bits in (1, 4, 8):
        for variant in ("", "-few", "-core"):
            width, height = size(rng, 3)
            count = 1 << bits if variant != "-few" else max(2, (1 << bits) * 3 // 4)
            index = rng.integers(0, count, (height, width))
            entry = 3 if variant == "-core" else 4
            table = np.zeros((count, entry), np.uint8)
            table[:, :3] = rng.integers(0, 256, (count, 3))
            yield f"index{bits}{variant}.bmp", bmp(
                width, height, bits, packed_rows(index, bits), palette=table.tobytes(),
                header_size=12 if entry == 3 else 40, colors=0 if variant == "" else count,
            )
    grey = picture(rng, 17, 9, 1)[:, :, 0]
    yield "grey.bmp", encode(Image.fromarray(grey), "BMP")
    yield "bilevel.bmp", encode(Image.fromarray(grey).convert("1"), "BMP")
    for bits, half in ((8, False), (4, True)):
        for variant in range(3):
            width, height = size(rng, 6)
            index = np.repeat(rng.integers(0, 1 << bits, (height, width)), 1 + variant, axis=1)[:, :width]
            table = rng.integers(0, 256, (1 << bits, 4)).astype(np.uint8).tobytes()
            rows = runs(index, half, rng)
            yield f"runs{bits}-{variant}.bmp", bmp(width, height, bits, rows, 2 if half else 1, table)
    for name, masks, compression in (
        ("555", None, 0), ("555m", (0x7C00, 0x3E0, 0x1F), 3), ("565", (0xF800, 0x7E0, 0x1F), 3),
    ):
        for header_size in (40, 56, 108, 124):
            width, height = size(rng, 2)
            rows = b"".join(padded(row.tobytes()) for row in rng.integers(0, 65536, (height, width)).astype("<u2"))
            fields = struct.pack("<III", *masks) if masks else b""
            if header_size >= 56 and masks:
                fields += struct.pack("<I", 0)
            yield f"rgb{name}-{header_size}.bmp", bmp(
                width, height, 16, rows, compression, masks=fields, header_size=header_size
            )
    for down in (False, True):
        width, height = size(rng, 2)
        rows = b"".join(padded(row.tobytes()) for row in picture(rng, width, height))
        yield f"rgb24{'-down' if down else ''}.bmp", bmp(width, height, 24, rows, down=down)
    yield "rgb24-core.bmp", bmp(width, height, 24, rows, header_size=12)
    wide = picture(rng, 15, 14, 4).tobytes()
    yield "rgbx32.bmp", bmp(15, 14, 32, wide)
    for number, masks in enumerate((
        (0xFF0000, 0xFF00, 0xFF, 0), (0xFF000000, 0xFF0000, 0xFF00, 0), (0xFF, 0xFF00, 0xFF0000, 0xFF000000),
        (0xFF0000, 0xFF00, 0xFF, 0xFF000000), (0xFF000000, 0xFF0000, 0xFF00, 0xFF), (0, 0, 0, 0),
    )):
        yield f"masks32-{number}.bmp", bmp(15, 14, 32, wide, 3, masks=struct.pack("<IIII", *masks), header_size=108)
    yield "rgba.bmp", encode(Image.fromarray(picture(rng, 9, 12, 4)), "BMP")


# ---------------------------------------------------------------- GIF


def on_screen(data, width, height, left, top, transparent=None):
    """A GIF with its screen enlarged and its frame moved; optionally with a transparent index."""
    flags = data[10]
    start = 13 + (3 << ((flags & 7) + 1) if flags & 128 else 0)
    head = data[:6] + struct.pack("<HH", width, height) + data[10:start]
    at = data.index(b",", start)
    frame = data[at : at + 1] + struct.pack("<HH", left, top) + data[at + 5 :]
    control = b"" if transparent is None else b"!\xf9\x04" + bytes([1, 0, 0, transparent]) + b"\0"
    return b"GIF89a" + head[6:] + control + frame


def gifs(rng):
    for number in range(8):
        width, height = size(rng, 2)
        image = rgb(rng, width, height).quantize(int(2 ** rng.integers(1, 9)))
        yield f"plain{number}.gif", encode(image, "GIF", interlace=number % 2)
    image = rgb(rng, 12, 10).quantize(16)
    still = encode(image, "GIF", interlace=0, optimize=False)
    yield "inside.gif", on_screen(still, 30, 25, 7, 9)
    yield "inside-clear.gif", on_screen(still, 30, 25, 7, 9, transparent=5)
    yield "over-the-edge.gif", on_screen(still, 14, 10, 8, 5)
    yield "clear.gif", on_screen(still, 12, 10, 0, 0, transparent=3)
    yield "grey.gif", encode(Image.fromarray(picture(rng, 19, 11, 1)[:, :, 0]), "GIF")
    flags = still[10]
    start = 13 + (3 << ((flags & 7) + 1))
    yield "no-palette.gif", still[:10] + bytes([flags & 0x7F]) + still[11:13] + still[start:]
    short = 3 << 2  # four colours for sixteen indices
    yield "short-palette.gif", still[:10] + bytes([flags & 0xF8 | 1]) + still[11:13] + still[13 : 13 + short] + still[start:]
    frames = [rgb(rng, 16, 16).quantize(32) for _ in range(3)]
    yield "animated.gif", encode(frames[0], "GIF", save_all=True, append_images=frames[1:], disposal=2)
    local = bytearray(still)
    at = still.index(b",", start)
    local[at + 9] |= 0x80 | (flags & 7)
    yield "local-palette.gif", bytes(local[: at + 10]) + bytes(rng.integers(0, 256, 3 << ((flags & 7) + 1)).astype(np.uint8)) + bytes(local[at + 10 :])


# ---------------------------------------------------------------- WebP


def riff(chunks):
    body = b"WEBP" + b"".join(n + struct.pack("<I", len(d)) + d + b"\0" * (len(d) % 2) for n, d in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def webps(rng):
    for number in range(10):
        width, height = size(rng, 1, 60)
        quality = int(rng.integers(5, 100))
        yield f"lossy{number}.webp", encode(rgb(rng, width, height), "WEBP", quality=quality, method=number % 7)
    for number in range(5):
        width, height = size(rng, 1, 50)
        yield f"lossless{number}.webp", encode(rgb(rng, width, height), "WEBP", lossless=True)
    few = rgb(rng, 31, 21).quantize(9).convert("RGB")
    yield "lossless-few.webp", encode(few, "WEBP", lossless=True)
    for number in range(3):
        width, height = size(rng, 2, 50)
        image = Image.fromarray(picture(rng, width, height, 4))
        yield f"alpha-lossy{number}.webp", encode(image, "WEBP", quality=60 + number)
        yield f"alpha-lossless{number}.webp", encode(image, "WEBP", lossless=True)
        yield f"alpha-exact{number}.webp", encode(image, "WEBP", lossless=True, exact=True)
    frames = [Image.fromarray(picture(rng, 33, 27, 4)) for _ in range(3)]
    yield "animated.webp", encode(frames[0], "WEBP", save_all=True, append_images=frames[1:], quality=70)
    yield "animated-lossless.webp", encode(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    alone = encode(rgb(rng, 11, 9), "WEBP", quality=80)[12:]
    place = struct.pack("<I", 3)[:3] + struct.pack("<I", 2)[:3] + struct.pack("<I", 10)[:3] + struct.pack("<I", 8)[:3]
    frame = place + struct.pack("<I", 100)[:3] + b"\0" + alone
    canvas = b"\x02\0\0\0" + struct.pack("<I", 29)[:3] + struct.pack("<I", 19)[:3]
    yield "frame-inside.webp", riff([(b"VP8X", canvas), (b"ANIM", b"\x80\x40\xff\xff\0\0"), (b"ANMF", frame)])
    for orientation in range(1, 9):
        yield f"exif{orientation}.webp", encode(rgb(rng, 19, 8), "WEBP", quality=80, exif=b"Exif\0\0" + exif(orientation, "MM"))
    yield "xmp8.webp", encode(rgb(rng, 19, 8), "WEBP", quality=80, xmp=xmp(8))


# ---------------------------------------------------------------- JPEG


def resampled(data, factors, width, height):
    """The JPEG with other sampling factors and size in its frame header: a valid file, a scrambled picture."""
    at = next(i for i in range(len(data)) if data[i : i + 2] in (b"\xff\xc0", b"\xff\xc2"))
    head = bytearray(data)
    head[at + 5 : at + 9] = struct.pack(">HH", height, width)
    head[at + 11] = factors
    return bytes(head)


def jpegs(rng):
    for subsampling in (0, 1, 2):
        for progressive in (False, True):
            for number in range(5):
                width, height = size(rng, 1, 70)
                yield f"s{subsampling}{'p' if progressive else ''}-{number}.jpg", encode(
                    rgb(rng, width, height), "JPEG", quality=int(rng.integers(20, 100)),
                    subsampling=subsampling, progressive=progressive, optimize=number % 2 == 0,
                )
    for number in range(4):
        width, height = size(rng, 1, 70)
        yield f"grey{number}.jpg", encode(Image.fromarray(picture(rng, width, height, 1)[:, :, 0]), "JPEG", progressive=number % 2)
    for number, (width, height) in enumerate(((48, 40), (33, 50), (61, 23), (9, 7))):
        plain = encode(rgb(rng, height, width), "JPEG", quality=85, subsampling=1, progressive=number % 2)
        yield f"s440-{number}.jpg", resampled(plain, 0x12, width, height)
    yield "s411.jpg", resampled(encode(rgb(rng, 32, 32), "JPEG", quality=85, subsampling=2), 0x41, 64, 16)
    for number in range(3):
        width, height = size(rng, 8, 70)
        yield f"restarts{number}.jpg", encode(
            rgb(rng, width, height), "JPEG", quality=80, subsampling=number, restart_marker_blocks=1 + number
        )
        yield f"keep-rgb{number}.jpg", encode(rgb(rng, width, height), "JPEG", quality=70 + number, keep_rgb=True)
    for number in range(3):
        width, height = size(rng, 5, 60)
        ink = encode(Image.fromarray(picture(rng, width, height, 4), "CMYK"), "JPEG", quality=90)
        yield f"cmyk{number}.jpg", ink
        at = ink.index(b"Adobe")
        yield f"ycck{number}.jpg", ink[: at + 11] + b"\2" + ink[at + 12 :]
    plain = encode(rgb(rng, 30, 22), "JPEG", quality=90)
    yield "trailing.jpg", plain + bytes(rng.integers(0, 256, 300).astype(np.uint8))
    yield "fill-bytes.jpg", plain[:2] + b"\xff\xff\xff" + plain[2:]
    yield "early-end.jpg", plain[: len(plain) * 2 // 3] + b"\xff\xd9"
    yield "comment.jpg", encode(rgb(rng, 25, 31), "JPEG", comment=b"a comment", dpi=(300, 300))
    yield "icc.jpg", plain[:2] + b"\xff\xe2\0\x20ICC_PROFILE\0\1\1" + bytes(16) + plain[2:]
    flat = Image.new("RGB", (17, 9), (200, 30, 60))
    yield "flat.jpg", encode(flat, "JPEG")
    for orientation in range(0, 10):
        order = "MM" if orientation % 2 else "II"
        yield f"exif{orientation}.jpg", encode(rgb(rng, 29, 12), "JPEG", exif=b"Exif\0\0" + exif(orientation, order))
    yield "exif-long.jpg", encode(rgb(rng, 29, 12), "JPEG", exif=b"Exif\0\0" + exif(6, value_type=4))
    yield "exif-broken.jpg", encode(rgb(rng, 29, 12), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    yield "exif-cut.jpg", encode(rgb(rng, 29, 12), "JPEG", exif=b"Exif\0\0" + exif(8)[:-4])
    for number, attribute in enumerate((True, False)):
        packet = b"http://ns.adobe.com/xap/1.0/\0" + xmp(6, attribute)
        part = b"\xff\xe1" + struct.pack(">H", len(packet) + 2) + packet
        yield f"xmp{number}.jpg", plain[:2] + part + plain[2:]
    both = encode(rgb(rng, 29, 12), "JPEG", exif=b"Exif\0\0" + exif(3))
    yield "exif-and-xmp.jpg", both[:2] + part + both[2:]


# ---------------------------------------------------------------- TIFF


def tiffs(rng):
    for compression in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits"):
        tag = compression or "raw"
        width, height = size(rng, 3, 40)
        options = {"compression": compression} if compression else {}
        yield f"rgb-{tag}.tif", encode(rgb(rng, width, height), "TIFF", **options)
        yield f"grey-{tag}.tif", encode(Image.fromarray(picture(rng, width, height, 1)[:, :, 0]), "TIFF", **options)
        yield f"palette-{tag}.tif", encode(rgb(rng, width, height).quantize(40), "TIFF", **options)
        yield f"cmyk-{tag}.tif", encode(Image.fromarray(picture(rng, width, height, 4), "CMYK"), "TIFF", **options)
    yield "rgba.tif", encode(Image.fromarray(picture(rng, 13, 17, 4)), "TIFF")
    yield "greyalpha.tif", encode(Image.fromarray(picture(rng, 13, 17, 2), "LA"), "TIFF")
    yield "bilevel.tif", encode(Image.fromarray(picture(rng, 21, 9, 1)[:, :, 0]).convert("1"), "TIFF")
    wide = picture(rng, 18, 16, 1)[:, :, 0].astype(np.uint16) * 256 + rng.integers(0, 256, (16, 18)).astype(np.uint16)
    yield "grey16.tif", encode(Image.fromarray(wide), "TIFF")
    for orientation in (3, 6, 8):
        yield f"turned{orientation}.tif", encode(rgb(rng, 14, 9), "TIFF", tiffinfo={274: orientation})


# ---------------------------------------------------------------- PNM


def pnms(rng):
    grey, color = picture(rng, 19, 14, 1)[:, :, 0], picture(rng, 17, 21)
    yield "grey.pgm", encode(Image.fromarray(grey), "PPM")
    yield "rgb.ppm", encode(Image.fromarray(color), "PPM")
    yield "bilevel.pbm", encode(Image.fromarray(grey).convert("1"), "PPM")
    text = " ".join(map(str, color.ravel())).encode()
    yield "ascii.ppm", b"P3\n# a comment\n17 21\n255\n" + text + b"\n"
    yield "ascii.pgm", b"P2 19 14 255\n" + "\n".join(map(str, grey.ravel())).encode()
    wide = color.astype(">u2") * 256 + rng.integers(0, 256, color.shape).astype(">u2")
    yield "rgb16.ppm", b"P6 17 21 65535\n" + wide.astype(">u2").tobytes()


# ---------------------------------------------------------------- TIFF, the rarer kinds


def tiff(width, height, bits, data, *tags):
    """A little-endian TIFF of one strip and one sample a pixel; `tags` are (tag, type, value)."""
    entries = [(256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1)]
    entries = {entry[0]: entry for entry in [*entries, (278, 4, height), (279, 4, len(data)), *tags]}
    directory = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in sorted(entries.values()))
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(entries)) + directory + bytes(4)


def rare_tiffs(rng):
    grey = picture(rng, 83, 31, 1)[:, :, 0]
    for name, page in (("dithered", Image.fromarray(grey).convert("1")), ("lines", Image.fromarray(grey > 127))):
        for compression in ("group3", "group4", "tiff_ccitt"):
            for tag, options in (("", {}), ("-white0", {262: 0}), ("-strips", {278: 7}), ("-reversed", {266: 2})):
                yield f"fax-{name}-{compression}{tag}.tif", encode(page, "TIFF", compression=compression, tiffinfo=options)
        for options in (1, 4, 5):  # in two dimensions, with fill bits
            yield f"fax-{name}-group3-{options}.tif", encode(page, "TIFF", compression="group3", tiffinfo={292: options})
    rows = np.packbits(grey[:, :80] > 127, axis=1)
    turned = np.packbits(np.unpackbits(rows, axis=1, bitorder="little"), axis=1)
    yield "lowest-bit-first.tif", tiff(80, 31, 1, turned.tobytes(), (266, 3, 2))
    levels = rng.uniform(0, 255, (9, 14))
    for name, kind, bits, form in (
        ("float32", "<f4", 32, 3), ("uint32", "<u4", 32, 1), ("int32", "<i4", 32, 2), ("int16", "<i2", 16, 2)
    ):
        yield f"{name}.tif", tiff(14, 9, bits, levels.astype(kind).tobytes(), (339, 3, form))
    yield "int8.tif", tiff(14, 9, 8, (levels / 2).astype("i1").tobytes(), (339, 3, 2))
    color = rgb(rng, 45, 38)
    for quality in (60, 95):
        yield f"jpeg{quality}.tif", encode(color, "TIFF", compression="jpeg", quality=quality)
    yield "jpeg-strips.tif", encode(color, "TIFF", compression="jpeg", tiffinfo={278: 16})
    yield "jpeg-ycbcr.tif", encode(color.convert("YCbCr"), "TIFF", compression="jpeg")
    yield "jpeg-grey.tif", encode(color.convert("L"), "TIFF", compression="jpeg")
    yield "jpeg-cmyk.tif", encode(Image.fromarray(picture(rng, 20, 17, 4), "CMYK"), "TIFF", compression="jpeg")
    yield "ycbcr.tif", encode(color.convert("YCbCr"), "TIFF")
    yield "palette-big.tif", encode(color.quantize(40), "TIFF", big_tiff=True)
    yield "palette-alpha.tif", encode(color.convert("L").convert("PA"), "TIFF")


# ---------------------------------------------------------------- JPEG 2000


def box(kind, data):
    return struct.pack(">I", 8 + len(data)) + kind + data


def jpeg2000s(rng):
    """Reversible ones, which have the same pixels everywhere."""
    color = rgb(rng, 61, 47)
    images = {
        "rgb": color, "grey": color.convert("L"), "greyalpha": Image.fromarray(picture(rng, 33, 29, 2), "LA"),
        "rgba": Image.fromarray(picture(rng, 33, 29, 4)), "cmyk": Image.fromarray(picture(rng, 33, 29, 4), "CMYK"),
        "grey16": Image.fromarray(rng.integers(0, 65536, (21, 40)).astype(np.uint16)),
    }
    for name, image in images.items():
        yield f"{name}.jp2", encode(image, "JPEG2000")
        if name != "cmyk":  # a codestream does not say what its components mean
            yield f"{name}.j2k", encode(image, "JPEG2000", no_jp2=True)
    for name, options in (
        ("tiles", {"tile_size": (32, 32)}), ("layers", {"quality_layers": [40, 10, 1]}), ("few", {"quality_layers": [8]}),
        ("blocks", {"codeblock_size": (16, 16), "precinct_size": (32, 32)}), ("whole", {"num_resolutions": 1}),
        ("apart", {"mct": 0, "progression": "CPRL"}),
        ("offset", {"offset": (13, 7), "tile_size": (48, 40), "tile_offset": (5, 3)}),
    ):
        yield f"{name}.jp2", encode(color, "JPEG2000", **options)
    index = Image.fromarray(rng.integers(0, 20, (15, 18)).astype(np.uint8))
    plain = encode(index, "JPEG2000")
    colors = rng.integers(0, 256, 60).astype(np.uint8).tobytes()
    table = box(b"pclr", struct.pack(">HB", 20, 3) + bytes([7] * 3) + colors)
    table += box(b"cmap", b"".join(struct.pack(">HBB", 0, 1, column) for column in range(3)))
    at = plain.index(b"jp2h") - 4
    head = box(b"ihdr", struct.pack(">IIHBBBB", 15, 18, 1, 7, 7, 0, 0)) + box(b"colr", struct.pack(">BBBI", 1, 0, 0, 16))
    yield "palette.jp2", plain[:at] + box(b"jp2h", head + table) + plain[plain.index(b"jp2c") - 4 :]


def near(rng):
    """Irreversible ones, and as PNG the pixels that Pillow makes of them."""
    color = rgb(rng, 90, 70)
    for name, image, options in (
        ("rates", color, {"quality_layers": [10]}), ("tiles", color, {"quality_layers": [20, 5], "tile_size": (32, 32)}),
        ("quality", color.convert("L"), {"quality_mode": "dB", "quality_layers": [38]}),
    ):
        data = encode(image, "JPEG2000", irreversible=True, **options)
        yield f"near-{name}.jp2", data
        yield f"near-{name}.jp2.png", encode(decoded(data), "PNG")
    data = encode(color.convert("YCbCr"), "JPEG2000")
    yield "near-ycbcr.jp2", data
    yield "near-ycbcr.jp2.png", encode(decoded(data), "PNG")


def grouped(rng):
    """A lossless WebP of parts so different that each has its codes, and as PNG its pixels."""
    image = np.array(rgb(rng, 110, 80))
    few = rng.integers(0, 256, (6, 3)).astype(np.uint8)[rng.integers(0, 6, (80, 110))]
    few[:40] = np.repeat(few[:40, ::5], 5, axis=1)[:, :110]
    image[:, 60:] = few[:, 60:]
    image[40:60, :30] = rng.integers(0, 256, (20, 30, 3))
    data = encode(Image.fromarray(image), "WEBP", lossless=True, quality=100, method=4)
    yield "groups.webp", data
    yield "groups.webp.png", encode(decoded(data), "PNG")


# ---------------------------------------------------------------- larger ones


def many(rng, count, photos):
    sources = [Image.open(path).convert("RGB") for path in sorted(Path(photos).iterdir())]
    for number in range(count):
        source = sources[number % len(sources)]
        width, height = int(rng.integers(60, source.width)), int(rng.integers(60, source.height))
        left, top = int(rng.integers(0, source.width - width + 1)), int(rng.integers(0, source.height - height + 1))
        image = source.crop((left, top, left + width, top + height))
        if number % 5 == 0:
            factor = rng.uniform(1, 4)
            image = image.resize((int(width * factor), int(height * rng.uniform(0.5, 3))), Image.Resampling.BICUBIC)
        kind = number % 10
        name = f"many{number:04}"
        if kind < 5:
            yield name + ".jpg", encode(
                image, "JPEG", quality=int(rng.integers(30, 99)), subsampling=number % 3, progressive=kind == 4
            )
        elif kind == 5:
            yield name + ".png", encode(image, "PNG", compress_level=1)
        elif kind == 6:
            yield name + ".webp", encode(image, "WEBP", quality=int(rng.integers(20, 99)), method=2)
        elif kind == 7:
            yield name + ".webp", encode(image, "WEBP", lossless=True, method=0)
        elif kind == 8:
            yield name + ".gif", encode(image.quantize(200), "GIF")
        else:
            yield name + ".jpg", encode(image.convert("L"), "JPEG", quality=80)


# ---------------------------------------------------------------- what Pillow and torchvision make of them


def decoded(data):
    with Image.open(io.BytesIO(data)) as image:
        clipped = image.format == "TIFF" and image.mode == "I"  # 32 bits, or signed
        image = ImageOps.exif_transpose(image)
        if image.mode in ("I;16", "I;16B", "I") and not clipped:  # tl keeps the high byte; Pillow clips
            high = (np.asarray(image).astype(np.int64) >> 8).astype(np.uint8)
            return Image.fromarray(high).convert("RGB")
        return image.convert("RGB")


def preset(resize_size, crop_size, interpolation):
    return ImageClassification(resize_size=resize_size, crop_size=crop_size, interpolation=interpolation)


def cropped(transform, image):
    image = F.resize(image, transform.resize_size, interpolation=transform.interpolation, antialias=True)
    return F.center_crop(image, transform.crop_size)


MEAN = (124, 116, 104)  # ImageNet's, times 255 and rounded


def fits(image, box, transform, scale):
    """CRC-32s of what a network sees of a squashed and of a padded image."""
    side = transform.crop_size[0]
    pillow = Image.Resampling.BICUBIC if transform.interpolation is BICUBIC else Image.Resampling.BILINEAR

    def squashed(image, side):
        return F.resize(image, [side, side], transform.interpolation, antialias=True)

    def padded(image, side):
        # Pillow rounds the shorter side of a strip to nothing, and refuses it.
        if round(min(image.size) / max(image.size) * side) == 0:
            size = (side, 1) if image.width > image.height else (1, side)
            image = image.resize(size, pillow)
            out = Image.new("RGB", (side, side), MEAN)
            out.paste(image, tuple(round((side - length) * 0.5) for length in size))
            return out
        return ImageOps.pad(image, (side, side), pillow, MEAN)

    left, top, width, height = box
    rectangle = image.crop((left, top, left + width, top + height))
    for fit in (squashed, padded):
        large = fit(image, scale)
        yield crc(fit(image, side))
        yield crc(fit(rectangle, side))
        yield crc(F.center_crop(large, side))
        ten = "+".join(sorted(crc(crop) for crop in F.ten_crop(large, side)))
        yield f"{zlib.crc32(ten.encode()):08x}"


def sampler(draws=10000):
    """What RandomResizedCrop draws from images of several shapes: mean and deviation of the rectangle's share of
    the area, of the logarithm of its ratio, and of its place in the room that it has (left and top)."""
    torch.manual_seed(0)
    for width, height in ((500, 375), (224, 224), (640, 100), (60, 700), (7, 5)):
        image = Image.new("RGB", (width, height))
        boxes = [RandomResizedCrop.get_params(image, (0.08, 1.0), (3 / 4, 4 / 3)) for _ in range(draws)]
        top, left, h, w = np.array(boxes, np.float64).T
        values = [w * h / (width * height), np.log(w / h), left / np.maximum(width - w, 1), top / np.maximum(height - h, 1)]
        yield [width, height] + [f"{number:.6f}" for value in values for number in (value.mean(), value.std())]


def crc(image):
    return f"{zlib.crc32(image.tobytes()):08x}"


def main(out_dir, count=0, photos=None):
    out = Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    presets = [preset(*row) for row in (LARGE if count else SMALL)]
    expected, crops, views, fitted, floats = [], [], [], [], []
    images = many(rng, count, photos) if count else (
        item for group in (pngs, bmps, gifs, webps, jpegs, tiffs, pnms, rare_tiffs, jpeg2000s) for item in group(rng)
    )
    for name, data in images:
        (out / name).write_bytes(data)
        image = decoded(data)
        row = [name, image.width, image.height, crc(image)]
        row += [crc(cropped(transform, image)) for transform in presets]
        expected.append(row)
        # A rectangle of any shape, as RandomResizedCrop draws one.
        width, height = int(rng.integers(1, image.width + 1)), int(rng.integers(1, image.height + 1))
        left, top = int(rng.integers(0, image.width - width + 1)), int(rng.integers(0, image.height - height + 1))
        number = len(expected) % len(presets)
        transform = presets[number]
        side = transform.crop_size[0]
        cut = F.resized_crop(image, top, left, height, width, [side, side], transform.interpolation, antialias=True)
        flip = len(expected) % 2
        crops.append([name, left, top, width, height, number, flip, crc(F.hflip(cut) if flip else cut)])
        scale = side + len(expected) % 9
        resized = F.resize(image, scale, transform.interpolation, antialias=True)
        views.append([name, number, scale, *sorted(crc(crop) for crop in F.ten_crop(resized, side))])
        # Some of the crops show margins alone.
        wide = scale if len(expected) % 2 else side * 3 + len(expected) % 7
        fitted.append([name, number, wide, left, top, width, height, *fits(image, (left, top, width, height), transform, wide)])
        if len(expected) % 16 == 0:
            tensor = transform(image)
            floats.append([name, number, f"{zlib.crc32(tensor.numpy().tobytes()):08x}"])
    if not count:
        for name, data in (*near(rng), *grouped(rng)):
            (out / name).write_bytes(data)
    tables = {
        "expected.csv": expected, "crops.csv": crops, "views.csv": views, "fits.csv": fitted,
        "normalised.csv": floats, "sampler.csv": sampler(),
    }
    for file, rows in tables.items():
        (out / file).write_text("".join(",".join(map(str, row)) + "\n" for row in rows))
    return len(expected)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("out_dir")
    parser.add_argument("--many", type=int, default=0)
    parser.add_argument("--photos")
    arguments = parser.parse_args()
    print(main(arguments.out_dir, arguments.many, arguments.photos), "images")
