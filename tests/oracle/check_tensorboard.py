"""Reads with TensorBoard's own reader what `train.tensorboard: true` has written.

    python tests/oracle/check_tensorboard.py TL

TensorBoard is installed into a folder that is removed afterwards (or taken from TENSORBOARD, a folder that
`pip install --target` has filled). A run is stopped in its middle and gone on with: its scalars have to be the rows of
metrics.jsonl, each step once, and the confusion matrix has to be a picture.
"""

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
VERSION = "tensorboard==2.20.0"
TAGS = {
    "loss/train": "train_loss", "loss/val": "val_loss", "accuracy/train": "train_accuracy",
    "accuracy/val": "val_accuracy", "lr": "lr", "images_per_second": "images_per_second",
}
RECIPE = """
model: shufflenet_v2_x0_5
weights: {weights}
preprocess: {{ resize_size: 32 }}
data: {{ train: {data}/train, val: 0.3 }}
strategy: {{ method: full }}
train: {{ epochs: 8, batch_size: 16, tensorboard: true }}
"""


def finetune(tl, folder, *arguments):
    return [tl, "finetune", "r.yaml", "--out", "run", "--device", "cpu", "--threads", "2", *arguments]


def main(tl):
    tl = str(Path(tl).resolve())
    with tempfile.TemporaryDirectory() as scratch:
        packages = os.environ.get("TENSORBOARD")
        if not packages:
            packages = str(Path(scratch) / "packages")
            command = [sys.executable, "-m", "pip", "install", "-q", "--target", packages, VERSION]
            subprocess.run(command, check=True)
        sys.path.insert(0, packages)
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        folder = Path(scratch)
        weights = ROOT / "data/shufflenet_v2_x0_5-letters.safetensors"
        (folder / "r.yaml").write_text(RECIPE.format(weights=weights, data=ROOT / "data/digits"))
        metrics = folder / "run/metrics.jsonl"
        lines = lambda: metrics.read_text().splitlines() if metrics.exists() else []
        process = subprocess.Popen(finetune(tl, folder), cwd=folder, stderr=subprocess.DEVNULL)
        while len(lines()) < 3 and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        process.wait()
        done = len(lines())
        assert 3 <= done < 8, f"the run was not stopped in its middle: {done} epochs"
        subprocess.run(finetune(tl, folder, "--resume"), cwd=folder, check=True, stderr=subprocess.DEVNULL)

        events = EventAccumulator(str(folder / "run/tensorboard"), size_guidance={"images": 0, "scalars": 0})
        events.Reload()
        rows = [json.loads(line) for line in lines()]
        assert set(events.Tags()["scalars"]) == set(TAGS), events.Tags()
        for tag, key in TAGS.items():
            scalars = events.Scalars(tag)
            assert [scalar.step for scalar in scalars] == [row["epoch"] for row in rows], tag
            found, expected = [scalar.value for scalar in scalars], [row[key] for row in rows]
            assert np.array_equal(np.float32(found), np.float32(expected)), tag
            times = [scalar.wall_time for scalar in scalars]
            assert times == sorted(times) and abs(times[-1] - time.time()) < 3600, tag
        [picture] = events.Images("confusion/val")
        image = np.asarray(Image.open(io.BytesIO(picture.encoded_image_string)))
        assert image.shape == (picture.height, picture.width, 3)
        matrix = np.array(json.loads((folder / "run/report.json").read_text())["val"]["confusion"])
        cell = picture.width // len(matrix)
        brightness = image.astype(int).sum(2)[cell // 2 :: cell, cell // 2 :: cell][: len(matrix), : len(matrix)]
        shares = matrix / matrix.sum(1, keepdims=True)
        order = np.argsort(shares, axis=None, kind="stable")
        assert (np.diff(brightness.ravel()[order]) >= 0).all(), "a larger share is darker"
        print(f"{len(rows)} epochs, stopped after {done}: {len(TAGS)} tags, each step once, equal to metrics.jsonl; "
              f"a confusion matrix of {picture.width}×{picture.height} pixels")


if __name__ == "__main__":
    main(sys.argv[1])
