"""Compares `tl extract` with torchvision: the same weight file, the same images, the same numbers.

    python tests/oracle/check_extract.py TL

Random weights of torchvision networks, BatchNorm's statistics too, are saved in every container that PyTorch
has had and as safetensors, in single and half precision, plain and wrapped as checkpoints are. `tl` reads each file
and a folder of images of mixed kinds; torchvision's own transforms and networks say what has to come out.
"""

import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

# Threads that wait by spinning take the CPU from the program that is being checked. Before PyTorch is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import numpy as np
import pyarrow.parquet
import torch
import torchvision
from PIL import Image, ImageOps
from safetensors import safe_open
from safetensors.torch import save_file

from checkpoints import save_tar
from pixels import picture

TOLERANCE = 1e-4
THREADS = "2"
ROOT = Path(__file__).resolve().parents[2]
MODELS = [
    "resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2", "alexnet", "shufflenet_v2_x0_5",
    "shufflenet_v2_x1_0",
]


# ---------------------------------------------------------------- images


def exif(orientation):
    tags = Image.Exif()
    tags[0x112] = orientation
    return tags.tobytes()


def make_images(folder):
    """29 images in class folders whose names sort otherwise as whole strings than as path components."""
    rng = np.random.default_rng(0)
    photos = [Image.open(ROOT / "data/photos" / name).convert("RGB") for name in ("china.jpg", "flower.jpg")]

    def put(name, image, **options):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, **options)

    def drawn(width, height, channels=3):
        pixels = picture(rng, width, height, channels)
        return Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels, {1: "L", 3: "RGB", 4: "RGBA"}[channels])

    for index, photo in enumerate(photos):
        put(f"photos/whole{index}.jpg", photo, quality=92)
        put(f"photos/narrow{index}.jpg", photo.crop((40 * index, 10, 200 + 40 * index, 420)), quality=75)
        put(f"photos-2/small{index}.JPEG", photo.resize((130 + index, 97)), quality=95, subsampling=0)
        put(f"photos-2/grey{index}.jpg", photo.convert("L").crop((100, 0, 420, 300)), quality=90)
        put(f"photos-2/progressive{index}.jpg", photo.resize((500, 333)), quality=85, progressive=True)
        put(f"photos/deep/er/{index}.png", photo.resize((301, 260)))
    for orientation in range(1, 9):
        put(f"turned/{orientation}.jpg", photos[1].crop((50, 50, 390, 290)), quality=90, exif=exif(orientation))
    put("turned/png-6.png", photos[0].crop((50, 50, 390, 290)), exif=exif(6))
    put("drawn/colour.png", drawn(224, 224))
    put("drawn/alpha.png", drawn(250, 400, 4))
    put("drawn/grey.png", drawn(256, 256, 1))
    put("drawn/palette.png", photos[1].quantize(64))
    put("drawn/lossless.webp", drawn(300, 280), lossless=True)
    put("drawn/bitmap.bmp", drawn(90, 41))
    put("drawn/first.gif", photos[0].resize((320, 200)).quantize(128))
    put("at-the-top.png", drawn(60, 300))
    # Neither an image nor anything to say an error about.
    put(".hidden/seen-by-nobody.png", drawn(8, 8))
    put("photos/.also-hidden.jpg", drawn(8, 8))
    (folder / "notes.txt").write_text("no image")


def listed(folder):
    """The paths and labels that `tl` has to find, in its order."""
    below = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and path.suffix != ".txt"]
    visible = [path for path in below if not any(part.startswith(".") for part in path.parts)]
    ordered = sorted(visible, key=lambda path: [part.encode() for part in path.parts])
    return [(str(folder / path), path.parent.name) for path in ordered]


def inputs(names, weights):
    transform = weights.transforms()
    images = [ImageOps.exif_transpose(Image.open(name)).convert("RGB") for name, _ in names]
    return torch.stack([transform(image) for image in images])


# ---------------------------------------------------------------- networks


def random_model(name, seed=0):
    torch.manual_seed(seed)
    model = torchvision.models.get_model(name, weights=None)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.2)
            torch.nn.init.normal_(module.running_mean, 0, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            module.num_batches_tracked.fill_(1234)
    return model.eval()


def enum(name):
    return list(torchvision.models.get_model_weights(name))


def outputs(model, images, layers=()):
    """Logits, the last linear layer's inputs, and the pooled outputs of `layers`."""
    kept, hooks = {}, []

    def keep(name):
        def hook(_module, _inputs, output):
            kept[name] = output.mean((2, 3)) if output.dim() == 4 else output
        return hook

    for name, layer in layers:
        hooks.append(model.get_submodule(layer).register_forward_hook(keep(name)))
    last = [module for module in model.modules() if isinstance(module, torch.nn.Linear)][-1]
    hooks.append(last.register_forward_pre_hook(lambda _, args: kept.update(features=args[0])))
    with torch.no_grad():
        kept["logits"] = model(images)
    for hook in hooks:
        hook.remove()
    return {name: value.numpy() for name, value in kept.items()}


def error(found, expected):
    """The largest relative error of a row, in the Euclidean norm."""
    assert found.shape == expected.shape and found.dtype == np.float32, (found.shape, expected.shape, found.dtype)
    assert np.isfinite(found).all()
    difference = np.linalg.norm(found.astype("f8") - expected.astype("f8"), axis=1)
    return float((difference / np.linalg.norm(expected.astype("f8"), axis=1)).max())


# ---------------------------------------------------------------- the program


class Program:
    def __init__(self, tl, folder, images):
        self.tl, self.folder, self.images = tl, folder, images
        self.worst, self.count = 0.0, 0

    def run(self, *arguments, expect=0):
        command = [self.tl, "extract", "--device", "cpu", "--threads", THREADS, *map(str, arguments), str(self.images)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == expect, f"{command}: exit code {done.returncode}\n{done.stderr}"
        return done

    def features(self, model, weights, *options, stage="logits"):
        out = self.folder / "x.npy"
        self.run("--model", model, "--weights", weights, "--stage", stage, "--out", out, *options)
        return np.load(out)

    def same(self, what, found, expected):
        relative = error(found, expected)
        print(f"  {what:<54} {relative:.1e}")
        assert relative <= TOLERANCE, f"{what}: relative error {relative:.2e}"
        self.worst, self.count = max(self.worst, relative), self.count + 1


def containers(model, folder):
    """The same state dict in each container."""
    state = model.state_dict()
    torch.save(state, folder / "w.zip.pth")
    yield "zip", folder / "w.zip.pth"
    torch.save(state, folder / "w.legacy.pth", _use_new_zipfile_serialization=False)
    yield "legacy", folder / "w.legacy.pth"
    save_tar(state, folder / "w.tar.pth")
    yield "tar", folder / "w.tar.pth"
    save_file(state, folder / "w.safetensors")
    yield "safetensors", folder / "w.safetensors"


def check_containers(program, names):
    for name in MODELS:
        model = random_model(name)
        expected = outputs(model, inputs(names, enum(name)[0]))
        for container, path in containers(model, program.folder):
            program.same(f"{name}, {container}", program.features(name, path), expected["logits"])
            path.unlink()


def check_precisions_and_wrappers(program, names):
    for name in ("resnet18", "alexnet", "shufflenet_v2_x0_5"):
        model = random_model(name, seed=1)
        state = model.state_dict()
        images = inputs(names, enum(name)[0])
        whole = outputs(model, images)["logits"]
        wrapped = {
            "under model": {"model": state, "epoch": 3},
            "under state_dict, module.": {
                "state_dict": {f"module.{key}": value for key, value in state.items()},
                "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}, "best_acc1": torch.tensor(3.5),
            },
            "under model_state_dict": {"model_state_dict": state},
            "as parameters": {**state, **dict(model.named_parameters())},
            "float64": {key: value.double() if value.is_floating_point() else value for key, value in state.items()},
            # Before PyTorch 0.4.1 there were no counts.
            "without counts": {key: value for key, value in state.items() if "num_batches" not in key},
            "float counts": {key: value.float() for key, value in state.items()},
        }
        path = program.folder / "wrapped.pt"
        for what, value in wrapped.items():
            torch.save(value, path)
            program.same(f"{name}, {what}", program.features(name, path), whole)
        for dtype in (torch.float16, torch.bfloat16):
            narrow = {key: value.to(dtype) if value.is_floating_point() else value for key, value in state.items()}
            rounded = torchvision.models.get_model(name, weights=None).eval()
            rounded.load_state_dict(narrow)
            expected = outputs(rounded, images)["logits"]
            for container, path in containers_of(narrow, program.folder):
                program.same(f"{name}, {str(dtype)[6:]}, {container}", program.features(name, path), expected)


def containers_of(state, folder):
    torch.save(state, folder / "n.pth")
    yield "zip", folder / "n.pth"
    torch.save(state, folder / "n.pth", _use_new_zipfile_serialization=False)
    yield "legacy", folder / "n.pth"
    save_file(state, folder / "n.safetensors")
    yield "safetensors", folder / "n.safetensors"


# `tl`'s stage, torchvision's module whose output it is.
STAGES = {
    "resnet18": [("conv1", "maxpool"), ("layer1", "layer1"), ("layer2.0", "layer2.0"), ("layer4", "layer4")],
    "resnext50_32x4d": [("layer3", "layer3"), ("layer4.2", "layer4.2")],
    "alexnet": [
        ("conv1", "features.2"), ("conv3", "features.7"), ("conv5", "features.12"), ("fc6", "classifier.2"),
        ("fc7", "classifier.5"),
    ],
    "shufflenet_v2_x0_5": [("conv1", "maxpool"), ("stage2.0", "stage2.0"), ("stage3", "stage3"), ("conv5", "conv5")],
}


def check_stages(program, names):
    for name, layers in STAGES.items():
        model = random_model(name, seed=2)
        path = program.folder / "stages.pth"
        torch.save(model.state_dict(), path)
        expected = outputs(model, inputs(names, enum(name)[0]), layers)
        for stage in [*(stage for stage, _ in layers), "features", "logits"]:
            program.same(f"{name}, stage {stage}", program.features(name, path, stage=stage), expected[stage])


def check_preprocessing(program, names):
    """A bare file is prepared for as the first entry; `--preprocess` chooses another."""
    name = "resnet50"
    model = random_model(name, seed=3)
    path = program.folder / "bare.pth"
    torch.save(model.state_dict(), path)
    first, second = enum(name)
    by_tag = {weights.name: outputs(model, inputs(names, weights))["features"] for weights in (first, second)}
    assert error(by_tag[first.name], by_tag[second.name]) > 100 * TOLERANCE, "the presets cannot be told apart"
    cases = [
        ([], first), (["--preprocess", first.name], first), (["--preprocess", second.name], second),
        (["--preprocess", "DEFAULT"], second), (["--preprocess", f"ResNet50_Weights.{second.name}"], second),
    ]
    for options, weights in cases:
        found = program.features(name, path, *options, stage="features")
        program.same(f"{name}, {' '.join(options) or 'no --preprocess'}", found, by_tag[weights.name])


def check_formats(program, names):
    """Every output format has the same rows."""
    name = "shufflenet_v2_x0_5"
    path = program.folder / "formats.safetensors"
    model = random_model(name, seed=4)
    save_file(model.state_dict(), path)
    expected = program.features(name, path, stage="features")
    program.same(f"{name}, .npy", expected, outputs(model, inputs(names, enum(name)[0]))["features"])
    with open(program.folder / "x.npy.index.csv", newline="", encoding="utf-8") as file:
        assert [*csv.reader(file)] == [["path", "label"], *map(list, names)], "the index has other rows"
    assert not (program.folder / "x.npy.errors.csv").exists()

    arguments = ["--model", name, "--weights", path, "--batch-size", 5, "--out"]
    for ending in ("npy", "parquet", "safetensors", "csv"):
        program.run(*arguments, program.folder / f"y.{ending}")
    # Batches of 5 may be computed by other kernels than those of 32, but each format sees the same batches.
    by_five = np.load(program.folder / "y.npy")
    program.same(f"{name}, --batch-size 5", by_five, expected)

    table = pyarrow.parquet.read_table(program.folder / "y.parquet")
    assert [*zip(table["path"].to_pylist(), table["label"].to_pylist())] == names
    values = table["features"].combine_chunks().flatten().to_numpy().reshape(len(names), -1)
    assert np.array_equal(values, by_five)
    with safe_open(program.folder / "y.safetensors", "np") as file:
        metadata = file.metadata()
        assert [*zip(json.loads(metadata["paths"]), json.loads(metadata["labels"]))] == names
        assert np.array_equal(file.get_tensor("features"), by_five)
    with open(program.folder / "y.csv", newline="", encoding="utf-8") as file:
        rows = [*csv.reader(file)]
    assert rows[0] == ["path", "label", *(f"f{i}" for i in range(by_five.shape[1]))]
    assert [tuple(row[:2]) for row in rows[1:]] == names
    assert np.array_equal(np.array([row[2:] for row in rows[1:]], "f4"), by_five)

    # A bad image among the good: left out, listed, exit code 1.
    bad = program.images / "photos" / "deep" / "cut.jpg"
    bad.write_bytes((program.images / "photos" / "whole0.jpg").read_bytes()[:5000])
    done = program.run(*arguments, program.folder / "y.npy", expect=1)
    assert np.array_equal(np.load(program.folder / "y.npy"), by_five), done.stderr
    with open(program.folder / "y.npy.errors.csv", newline="", encoding="utf-8") as file:
        (header, row) = csv.reader(file)
    assert header == ["path", "error"] and row[0] == str(bad) and row[1], row
    bad.unlink()


def main(tl):
    os.chdir(ROOT)
    torch.set_num_threads(int(THREADS))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        images = folder / "images"
        make_images(images)
        names = listed(images)
        program = Program(tl, folder, images)
        check_containers(program, names)
        check_precisions_and_wrappers(program, names)
        check_stages(program, names)
        check_preprocessing(program, names)
        check_formats(program, names)
    print(f"{program.count} comparisons on {len(names)} images: relative error at most {program.worst:.1e}")


if __name__ == "__main__":
    main(sys.argv[1])
