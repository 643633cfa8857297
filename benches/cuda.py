#!/usr/bin/env python3
"""Measures `tl` with ResNet-50 on a CUDA device, in one call of ten minutes at most.

    export LD_LIBRARY_PATH=$(python3 -c 'import torch; print(torch.__path__[0])')/lib
    python3 benches/cuda.py --tl target/release/tl --out FOLDER [--budget SECONDS] [--images N]

Needs PyTorch 2.11 and the photographs in data/photos. Where torchvision and Pillow are there too, the peer (peer.py) is
measured from files; without them that is said, and what is left is the network's own rate on tensors that lie on the
device, which PyTorch alone can tell. Each result is a line of FOLDER/cuda.jsonl, written as soon as it is there; at the
end the table is printed and written to FOLDER/cuda.md.

A rate from files is that between a small and a large number of images, (N - n) / (t(N) - t(n)): starting the program,
loading libraries and choosing kernels is in both, and falls out. The files are the two photographs (640×427), each
with some bytes after its end, so that no two are equal. `--device cpu --images 48 --budget 120` tries the script.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import nn

HERE = Path(__file__).resolve().parent
PHOTOS = sorted((HERE.parent / "data" / "photos").glob("*.jpg"))
CLASSES = 4


class Bench:
    def __init__(self, args):
        self.args = args
        self.started = time.perf_counter()
        self.out = args.out
        self.out.mkdir(parents=True, exist_ok=True)
        self.work = Path(args.scratch or self.out / "scratch")
        self.work.mkdir(parents=True, exist_ok=True)
        self.results = self.out / "cuda.jsonl"
        self.results.unlink(missing_ok=True)
        self.rows = []
        self.cores = len(os.sched_getaffinity(0))
        options = [self.said("extract"), self.said("finetune")]
        self.precisions = ["fp32", "bf16"] if "--precision" in options[0] else ["fp32"]
        missing = [name for name in ("torchvision", "PIL", "numpy") if importlib.util.find_spec(name) is None]
        self.no_peer = f"{', '.join(missing)} missing" if missing else ""

    def said(self, command):
        return subprocess.run([self.args.tl, command, "--help"], capture_output=True, text=True, check=True).stdout

    def left(self):
        return self.args.budget - (time.perf_counter() - self.started)

    def record(self, what, **figures):
        row = {"what": what, **figures}
        self.rows.append(row)
        with self.results.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{time.perf_counter() - self.started:6.1f} s  {json.dumps(row)}", flush=True)

    def step(self, what, work):
        """One measurement; what fails, or does not fit into the time, is a line of the results too."""
        if self.left() < 15:
            return self.record(what, skipped="no time left")
        try:
            self.record(what, **work())
        except subprocess.TimeoutExpired:
            self.record(what, skipped="the time ran out")
        except (subprocess.CalledProcessError, RuntimeError, OSError, ValueError, KeyError) as error:
            said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
            self.record(what, failed=said[-1] if said else repr(error))

    def run(self, command):
        """Seconds and standard output of a program that ends well."""
        started = time.perf_counter()
        done = subprocess.run(
            [str(part) for part in command], capture_output=True, text=True, check=True, timeout=max(self.left(), 1)
        )
        return time.perf_counter() - started, done.stdout

    # --- What is measured -------------------------------------------------------------------------------------------

    def describe(self):
        cuda = self.args.device.startswith("cuda")
        doctor = subprocess.run([self.args.tl, "doctor"], capture_output=True, text=True).stdout
        (self.out / "doctor.txt").write_text(doctor)
        name = torch.cuda.get_device_name() if cuda else "CPU"
        version = self.run([self.args.tl, "--version"])[1].strip()
        figures = {"device": name, "torch": torch.__version__, "tl": version, "cores": self.cores}
        return {**figures, "peer": self.no_peer or "torchvision", "doctor": doctor.splitlines()[:5]}

    def files(self):
        small, large = self.args.images // 8, self.args.images
        for name, count in (("small", small), ("large", large)):
            folder = self.work / name
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            for number in range(count):
                # Hard links: to decode equal files takes as long as others, and they are in memory at once.
                source = self.work / f"photo{number % len(PHOTOS)}.jpg"
                if not source.exists():
                    shutil.copy(PHOTOS[number % len(PHOTOS)], source)
                os.link(source, folder / f"{number:06}.jpg")
        root = self.work / "labelled"
        shutil.rmtree(root, ignore_errors=True)
        for number in range(large // 4 + 16):
            part = "val" if number < 16 else "train"
            folder = root / part / f"class{number // 2 % CLASSES}"
            folder.mkdir(parents=True, exist_ok=True)
            # Not links: `tl` leaves copies of validation images out of training.
            data = PHOTOS[number % len(PHOTOS)].read_bytes() + f"{number:8}".encode()
            (folder / f"{number:06}.jpg").write_bytes(data)
        torch.manual_seed(0)
        torch.save(resnet50().state_dict(), self.work / "resnet50.pth")
        return {"images": large, "small": small}

    def network(self, batch, best, train):
        """Images a second of the network on tensors that lie on the device."""
        device = torch.device(self.args.device)
        model = resnet50().to(device).train(train)
        images = torch.randn(batch, 3, 224, 224, device=device)
        labels = torch.zeros(batch, dtype=torch.long, device=device)
        if best:
            model = model.to(memory_format=torch.channels_last)
            images = images.to(memory_format=torch.channels_last)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)

        def step():
            with torch.autocast(device.type, torch.bfloat16) if best else contextlib.nullcontext():
                if not train:
                    with torch.inference_mode():
                        return model(images)
                loss = nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        for _ in range(5 if device.type == "cuda" else 1):
            step()
        rates = []
        for _ in range(3):
            synchronise(device)
            started, steps = time.perf_counter(), 0
            while time.perf_counter() - started < self.args.seconds:
                step()
                steps += 1
                if steps % 8 == 0:
                    synchronise(device)
            synchronise(device)
            rates.append(steps * batch / (time.perf_counter() - started))
        return {"images_per_second": statistics.median(rates), "rates": rates}

    def extract(self, precision, batch):
        times = {}
        for name in ("small", "large", "small", "large"):
            command = [self.args.tl, "extract", "--model", "resnet50", "--weights", self.work / "resnet50.pth"]
            command += ["--out", self.work / f"tl-{precision}-{name}.npy", "--batch-size", batch, "--quiet"]
            command += ["--device", self.args.device] + (["--precision", precision] if precision != "fp32" else [])
            times.setdefault(name, []).append(self.run([*command, self.work / name])[0])
        return {**marginal(times, self.args.images), "difference": self.difference(precision)}

    def peer(self, best, batch):
        times = {}
        for name in ("small", "large", "small", "large"):
            command = [sys.executable, HERE / "peer.py", "extract", "--model", "resnet50", "--device", self.args.device]
            command += ["--weights", self.work / "resnet50.pth", "--images", self.work / name, "--batch", batch]
            command += ["--workers", self.cores, "--out", self.work / f"peer-{name}.npy"] + (["--best"] if best else [])
            times.setdefault(name, []).append(self.run(command)[0])
        if not best:
            os.replace(self.work / "peer-small.npy", self.work / "peer-fp32.npy")
        return marginal(times, self.args.images)

    def difference(self, precision):
        """Of tl's features from the peer's at fp32, relative; None where the peer has not been."""
        if not (self.work / "peer-fp32.npy").is_file():
            return None
        import numpy as np

        ours = np.load(self.work / f"tl-{precision}-small.npy")
        theirs = np.load(self.work / "peer-fp32.npy")
        found = (np.linalg.norm(ours - theirs, axis=1) / np.linalg.norm(theirs, axis=1)).max()
        # TF32 and other algorithms on CUDA; bfloat16 has 8 bits.
        limit = 5e-2 if precision != "fp32" else 5e-3
        if not found <= limit:
            raise ValueError(f"tl's features differ from the peer's by {found:.2g} relative, {limit} is allowed")
        return float(found)

    def epoch(self, precision, batch):
        """The last epoch of three, by tl's own clock: loading and augmentation included."""
        recipe = self.work / "train.yaml"
        recipe.write_text(
            f"model: resnet50\nweights: {self.work / 'resnet50.pth'}\n"
            f"data: {{ train: {self.work / 'labelled/train'}, val: {self.work / 'labelled/val'} }}\n"
            f"strategy: {{ method: full }}\n"
            f"train: {{ epochs: 3, batch_size: {batch}, lr: 0.001, head_lr: 0.001, warmup_epochs: 0 }}\n"
        )
        run = self.work / "run"
        command = [self.args.tl, "finetune", recipe, "--out", run, "--overwrite", "--quiet"]
        command += ["--device", self.args.device]
        command += ["--set", f"train.precision={precision}"] if precision != "fp32" else []
        self.run(command)
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        return {"images_per_second": rows[-1]["images_per_second"], "losses": [row["train_loss"] for row in rows]}

    def peer_epoch(self, best, batch):
        command = [sys.executable, HERE / "peer.py", "finetune", "--model", "resnet50", "--device", self.args.device]
        command += ["--weights", self.work / "resnet50.pth", "--images", self.work / "labelled", "--batch", batch]
        command += ["--workers", self.cores, "--epochs", 3, "--lr", 0.001] + (["--best"] if best else [])
        rows = json.loads(self.run(command)[1].splitlines()[-1])["epochs"]
        images = sum(1 for _ in (self.work / "labelled" / "train").rglob("*.jpg"))
        return {"images_per_second": images / rows[-1]["seconds"], "losses": [row["loss"] for row in rows]}

    def all(self):
        self.step("machine", self.describe)
        self.step("files", self.files)
        for batch in self.args.batches:
            for best, name in ((False, "fp32"), (True, "bf16")):
                self.step(f"network {name} batch {batch}", lambda: self.network(batch, best, False))
                if not self.no_peer:
                    self.step(f"peer extract {name} batch {batch}", lambda: self.peer(best, batch))
                if name in self.precisions:
                    self.step(f"tl extract {name} batch {batch}", lambda: self.extract(name, batch))
        batch = self.args.batches[0]
        for best, name in ((True, "bf16"), (False, "fp32")):
            self.step(f"network training {name} batch {batch}", lambda: self.network(batch, best, True))
            if name in self.precisions:
                self.step(f"tl training {name} batch {batch}", lambda: self.epoch(name, batch))
            if not self.no_peer:
                self.step(f"peer training {name} batch {batch}", lambda: self.peer_epoch(best, batch))
        text = self.table()
        (self.out / "cuda.md").write_text(text)
        print(text)
        shutil.rmtree(self.work, ignore_errors=True)
        return int(any("failed" in row for row in self.rows))

    def table(self):
        """tl's rates over the network's own and over the peer's, a row each."""
        rate = {row["what"]: row.get("images_per_second") for row in self.rows}
        machine = self.rows[0]
        lines = [f"{machine.get('device')}, torch {machine.get('torch')}, {machine.get('tl')}, {machine.get('cores')} cores"]
        if self.no_peer:
            lines += ["", f"The peer from files was not measured: {self.no_peer}."]
        lines += ["", "| images a second | `tl` | the network alone | share | the peer | ratio |", "| --- | --- | --- | --- | --- | --- |"]
        for row in self.rows:
            if not row["what"].startswith("tl "):
                continue
            kind = row["what"].removeprefix("tl ")
            own = rate.get("network " + kind.removeprefix("extract "))
            theirs, ours = rate.get(f"peer {kind}"), row.get("images_per_second")
            if ours is None:
                lines.append(f"| {kind} | {row.get('failed') or row.get('skipped')} | | | | |")
                continue
            share = f"{own:.0f} | {ours / own:.0%}" if own else " | "
            ratio = f"{theirs:.0f} | {ours / theirs:.2f}" if theirs else " | "
            lines.append(f"| {kind} | {ours:.0f} | {share} | {ratio} |")
        return "\n".join(lines) + "\n"


def resnet50():
    """torchvision's, or the same network without it."""
    if importlib.util.find_spec("torchvision"):
        from torchvision.models import resnet50 as build

        return build(weights=None)
    from resnet import ResNet50

    return ResNet50()


def synchronise(device):
    if device.type == "cuda":
        torch.cuda.synchronize()


def marginal(times, images):
    """The rate between the two sizes, of the faster run of each."""
    small, large = min(times["small"]), min(times["large"])
    if large <= small:
        raise ValueError(f"{images} images took no longer than {images // 8}: give more with --images")
    rate = (images - images // 8) / (large - small)
    return {"images_per_second": rate, "seconds": times}


def main():
    parser = argparse.ArgumentParser(description="Measures tl with ResNet-50 on a CUDA device.")
    parser.add_argument("--tl", default=os.environ.get("TL", str(HERE.parent / "target" / "release" / "tl")))
    parser.add_argument("--out", type=Path, default=HERE.parent / "build" / "bench-cuda")
    parser.add_argument("--scratch", help="where the images go: a fast disk")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--images", type=int, default=16384)
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 256])
    parser.add_argument("--seconds", type=float, default=2.0, help="of each of three measurements of the network alone")
    parser.add_argument("--budget", type=float, default=540, help="seconds for all of it")
    args = parser.parse_args()
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        print("cuda: PyTorch sees no CUDA device here (--device cpu tries the script)", file=sys.stderr)
        return 2
    return Bench(args).all()


if __name__ == "__main__":
    sys.exit(main())
