"""What torchvision does to training images, for the tests of src/preprocess/augment/, src/data/mixing.rs and src/optim/ema.rs.

    python tests/oracle/augment.py OUT_DIR [PICTURE]

Writes images (*.png) and, for given parameters, checksums of what torchvision's transforms make of them on Pillow images
(*.csv); and mixed batches, their losses, quantiles of the Beta distribution and averaged weights (*.json). With PICTURE,
an image, writes every operation on it into OUT_DIR/preview.png instead, to be looked at.
"""

import csv
import json
import sys
import zlib
from pathlib import Path

import numpy
import scipy.stats
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, autoaugment, v2
from torchvision.transforms import functional as F

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def images():
    """Small images with edges, gradients, noise and few values."""
    generator = numpy.random.default_rng(11)
    made = {}
    for name, (width, height) in {"square": (48, 48), "wide": (57, 41), "tall": (31, 64)}.items():
        y, x = numpy.mgrid[0:height, 0:width].astype(float)
        red = 127 + 120 * numpy.sin(x / 5 + y / 9)
        green = 255 * x / width
        blue = 40 + 160 * ((x - width / 2) ** 2 + (y - height / 2) ** 2 < (min(width, height) / 3) ** 2)
        pixels = numpy.stack([red, green, blue], -1) + generator.normal(0, 6, (height, width, 3))
        made[name] = pixels.clip(0, 255)
    made["noise"] = generator.integers(0, 256, (40, 40, 3))
    made["dark"] = generator.integers(20, 90, (33, 33, 3))
    made["flat"] = numpy.full((24, 24, 3), [200, 30, 90])
    made["two"] = generator.choice([10, 240], (26, 20, 3))
    made["tiny"] = generator.integers(0, 256, (2, 3, 3))
    return {name: Image.fromarray(numpy.asarray(pixels, dtype=numpy.uint8)) for name, pixels in made.items()}


def crc(data):
    return f"{zlib.crc32(data):08x}"


def spaces(width, height):
    """torchvision's tables of magnitudes."""
    return {
        "auto": autoaugment.AutoAugment()._augmentation_space(10, (height, width)),
        "rand": autoaugment.RandAugment()._augmentation_space(31, (height, width)),
        "wide": autoaugment.TrivialAugmentWide()._augmentation_space(31),
    }


def operations(pictures):
    rows = []
    for name, image in pictures.items():
        given = {"Invert": {0.0}}
        for space, table in spaces(*image.size).items():
            for operation, (magnitudes, signed) in table.items():
                chosen = given.setdefault(operation, set())
                if magnitudes.ndim == 0:
                    chosen.add(0.0)
                    continue
                bins = [0, 3, 9] if space == "auto" else [1, 9, 15, 20, 26, 30]
                for value in (float(magnitudes[i]) for i in bins):
                    chosen |= {value, -value} if signed else {value}
        for operation, chosen in given.items():
            for magnitude in sorted(chosen):
                out = autoaugment._apply_op(image, operation, magnitude, InterpolationMode.NEAREST, None)
                rows.append([name, operation, repr(magnitude), crc(out.tobytes())])
    # Right angles, where Pillow turns without a matrix, and those near them.
    for name in ["square", "wide"]:
        for angle in [90.0, -90.0, 180.0, 270.0, 360.0, 89.99, 45.0, 200.5]:
            rows.append([name, "Rotate", repr(angle), crc(F.rotate(pictures[name], angle).tobytes())])
    return rows


def magnitudes():
    rows = []
    for width, height in [(224, 224), (48, 31)]:
        for space, table in spaces(width, height).items():
            for operation, (values, signed) in table.items():
                for i, value in enumerate(values.reshape(-1).tolist()):
                    rows.append([space, operation, width, height, i, int(signed), repr(float(value))])
    return rows


def jitters(pictures):
    generator = numpy.random.default_rng(5)
    adjust = [F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue]
    rows = []
    for name, image in pictures.items():
        cases = [[(i, factor)] for i in range(3) for factor in [0.0, 0.25, 0.6, 1.0, 1.4, 3.0]]
        cases += [[(3, turns)] for turns in [-0.5, -0.31, -0.1, -0.003, 0.0, 0.004, 0.07, 0.25, 0.5]]
        for _ in range(12):
            factors = [*generator.uniform(0.2, 1.8, 3), generator.uniform(-0.5, 0.5)]
            cases.append([(int(i), float(factors[i])) for i in generator.permutation(4)])
        for case in cases:
            out = image
            for which, factor in case:
                out = adjust[which](out, factor)
            steps = " ".join(f"{'bcsh'[which]}{factor!r}" for which, factor in case)
            rows.append([name, steps, crc(out.tobytes())])
    return rows


def scaled(pictures):
    """Scale jitter, and flips from top to bottom, for given draws."""
    generator = numpy.random.default_rng(6)
    rows = []
    for name, image in pictures.items():
        for mode in ["bilinear", "bicubic"]:
            for _ in range(4):
                crop = 20
                shorter = int(generator.integers(crop, 2 * crop + 1))
                out = F.resize(image, shorter, InterpolationMode(mode))
                top = int(generator.integers(0, out.height - crop + 1))
                left = int(generator.integers(0, out.width - crop + 1))
                flip = int(generator.integers(0, 2))
                out = F.crop(out, top, left, crop, crop)
                out = F.vflip(out) if flip else out
                rows.append([name, mode, shorter, left, top, flip, crc(out.tobytes())])
    return rows


# fb.resnet.torch, datasets/imagenet.lua.
EIGENVALUES = torch.tensor([0.2175, 0.0188, 0.0045], dtype=torch.float64)
EIGENVECTORS = torch.tensor(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]], dtype=torch.float64
)


def colour_shifts(pictures):
    generator = numpy.random.default_rng(7)
    rows = []
    for name in ["square", "noise"]:
        for _ in range(6):
            alphas = generator.normal(0, 0.1, 3).tolist()
            shift = (EIGENVECTORS * torch.tensor(alphas, dtype=torch.float64) * EIGENVALUES).sum(1).float()
            pixels = F.to_tensor(pictures[name]) + shift[:, None, None]
            out = F.normalize(pixels, MEAN, STD)
            rows.append({"image": name, "alphas": alphas, "shift": shift.tolist(), "mean": out.mean((1, 2)).tolist()})
    return rows


def mixing():
    """Batches mixed with given parameters, and losses on their targets."""
    generator = torch.Generator().manual_seed(3)
    cases = []
    classes, side = 4, 6
    for kind, parameter in [("mixup", 0.3), ("mixup", 0.9), ("cutmix", 0.2), ("cutmix", 0.8), ("cutmix", 1.0)]:
        for count in [1, 3]:
            images = (torch.rand(count, 3, side, side, generator=generator) * 16).round() / 16
            labels = torch.randint(classes, (count,), generator=generator)
            transform = (v2.MixUp if kind == "mixup" else v2.CutMix)(num_classes=classes)
            if kind == "mixup":
                params, drawn = {"lam": parameter}, {"lambda": parameter}
            else:
                # CutMix.make_params, with its Beta distribution replaced by a number.
                transform._dist = type("Fixed", (), {"sample": lambda self, shape, to=parameter: torch.tensor(to)})()
                torch.manual_seed(count)
                params = transform.make_params([images])
                torch.manual_seed(count)
                centre = [int(torch.randint(side, (1,))), int(torch.randint(side, (1,)))]
                drawn = {"lambda": float(torch.tensor(parameter)), "centre": centre, "box": list(params["box"])}
                drawn["lambda_adjusted"] = params["lam_adjusted"]
            params |= {"labels": labels, "batch_size": count}
            mixed, targets = transform.transform(images, params), transform.transform(labels, params)
            logits = torch.randn(count, classes, generator=generator)
            weights = torch.tensor([0.5, 2.0, 1.0, 0.25])
            losses = [
                {
                    "smoothing": smoothing,
                    "weighted": weighted,
                    "loss": torch.nn.functional.cross_entropy(
                        logits, targets, weights if weighted else None, label_smoothing=smoothing
                    ).item(),
                }
                for smoothing in [0.0, 0.1]
                for weighted in [False, True]
            ]
            cases.append(
                {
                    "kind": kind,
                    **drawn,
                    "images": images.flatten().tolist(),
                    "labels": labels.tolist(),
                    "mixed": mixed.flatten().tolist(),
                    "targets": targets.flatten().tolist(),
                    "logits": logits.flatten().tolist(),
                    "weights": weights.tolist(),
                    "losses": losses,
                }
            )
    return cases


def beta():
    """Quantiles of Beta(alpha, alpha), at twentieths."""
    levels = [i / 20 for i in range(1, 20)]
    return [
        {"alpha": alpha, "quantiles": scipy.stats.beta(alpha, alpha).ppf(levels).tolist()}
        for alpha in [0.1, 0.2, 0.4, 1.0, 2.0, 32.0]
    ]


def averages():
    """Weights and running statistics of a small network, and torchvision's average of them after each step."""
    cases = []
    for decay in [0.3, 0.9, 0.999]:
        generator = torch.Generator().manual_seed(9)
        network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
        # references/classification/utils.py: ExponentialMovingAverage.
        average = torch.optim.swa_utils.AveragedModel(
            network, avg_fn=lambda mean, new, _: decay * mean + (1 - decay) * new, use_buffers=True
        )
        steps = []
        for _ in range(6):
            with torch.no_grad():
                for value in network.state_dict().values():
                    if value.is_floating_point():
                        value.copy_(torch.randn(value.shape, generator=generator))
            average.update_parameters(network)
            flat = lambda state: {k: v.flatten().tolist() for k, v in state.items() if v.is_floating_point()}
            steps.append({"values": flat(network.state_dict()), "average": flat(average.module.state_dict())})
        cases.append({"decay": decay, "steps": steps})
    return cases


def preview(path, out):
    """A row for each operation: the image, and three magnitudes of the wide space."""
    side = 128
    image = F.center_crop(F.resize(Image.open(path).convert("RGB"), side), side)
    table = spaces(side, side)["wide"]
    sheet = Image.new("RGB", (side * 4, side * len(table)))
    for row, (operation, (magnitudes, signed)) in enumerate(table.items()):
        sheet.paste(image, (0, row * side))
        for column, i in enumerate([10, 20, 30]):
            magnitude = float(magnitudes[i]) if magnitudes.ndim else 0.0
            changed = autoaugment._apply_op(image, operation, magnitude, InterpolationMode.NEAREST, None)
            sheet.paste(changed, ((column + 1) * side, row * side))
    sheet.save(out / "preview.png")


def main(out_dir, picture=None):
    torch.set_num_threads(1)
    out = Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    if picture:
        return preview(picture, out)
    pictures = images()
    for name, image in pictures.items():
        image.save(out / f"{name}.png")
    policies = autoaugment.AutoAugment()._get_policies(autoaugment.AutoAugmentPolicy.IMAGENET)
    pairs = [[operation, p, magnitude or 0] for pair in policies for operation, p, magnitude in pair]
    tables = {
        "operations": operations(pictures),
        "magnitudes": magnitudes(),
        "jitters": jitters(pictures),
        "scaled": scaled(pictures),
        "pairs": pairs,
    }
    for name, rows in tables.items():
        with open(out / f"{name}.csv", "w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
    numbers = {
        "colour_shifts": colour_shifts(pictures),
        "mixing": mixing(),
        "beta": beta(),
        "averages": averages(),
    }
    for name, value in numbers.items():
        (out / f"{name}.json").write_text(json.dumps(value) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
