"""The cases of the benchmark: a class each kind, a row each case. A case knows the commands of `tl` and of the peer, and
compares what they have written."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from process import Failed

PEER = Path(__file__).resolve().parent / "peer.py"


@dataclass
class Setting:
    """Where and how the cases of one call run."""

    tl: str
    python: str
    folder: Path
    cores: list
    images: int
    tl_options: str

    @property
    def threads(self) -> int:
        return len(self.cores)

    def scratch(self, name: str) -> Path:
        return self.folder / "scratch" / name

    def weights(self, model: str) -> Path:
        return self.folder / "weights" / f"{model}.pth"

    def set_of(self, kind: str, count: int) -> Path:
        return self.folder / "images" / f"{kind}-{count}"


class Case:
    """`who` is `tl`, or one of `peers`: `default`, `best`, and what else a case may have."""

    model = "resnet18"
    peers = ("default", "best")
    memory = False
    # Of the whole call, relative to what was asked for: the dear cases are repeated less often.
    repeat = 1.0
    # Of the peer's time, what is compared: `work` leaves out starting Python and importing torch.
    whole_program = False

    def images(self, setting: Setting) -> dict:
        """The sets of images that it needs, with their numbers."""
        raise NotImplementedError

    def folder(self, setting: Setting) -> Path:
        """Where the first of them is."""
        return next(setting.set_of(*each) for each in self.images(setting).items())

    def missing(self, setting: Setting) -> str:
        """Why it cannot run here, or nothing."""
        return ""

    def command(self, who: str, setting: Setting) -> list:
        return self.tl(setting) if who == "tl" else self.peer(who, setting)

    def peer_command(self, who: str, setting: Setting, task: str, *more) -> list:
        command = [setting.python, PEER, task, "--model", self.model, "--weights", setting.weights(self.model)]
        command += ["--workers", setting.threads, *more]
        return command + ([] if who == "default" else ["--best"])

    def figures(self, who: str, setting: Setting, stdout: str) -> dict:
        """What the program itself says of its run, beside the time and memory measured from outside."""
        return {} if who == "tl" else {"work": json.loads(stdout.splitlines()[-1])["work"]}

    def agree(self, who: str, setting: Setting) -> float:
        """How far the output of `who` is from that of `tl`; `Failed` if that is too far."""
        raise NotImplementedError


@dataclass
class Extract(Case):
    """Features of a folder of images, to an .npy file."""

    model: str
    kind: str = "photographs"
    share: float = 1.0
    decode: str = ""
    peers: tuple = ("default", "best")
    memory: bool = False
    repeat: float = 1.0
    exactly: int = 0

    def count(self, setting: Setting) -> int:
        return self.exactly or max(8, int(setting.images * self.share))

    def images(self, setting: Setting) -> dict:
        return {self.kind: self.count(setting)}

    def missing(self, setting: Setting) -> str:
        absent = self.decode and "--decode" not in setting.tl_options
        return "this tl has no --decode" if absent else ""

    def out(self, who: str, setting: Setting) -> Path:
        return setting.scratch(f"{self.model}-{self.kind}{self.decode}-{who}.npy")

    def tl(self, setting: Setting) -> list:
        command = [setting.tl, "extract", "--model", self.model, "--weights", setting.weights(self.model)]
        command += ["--device", "cpu", "--threads", setting.threads, "--out", self.out("tl", setting), "--quiet"]
        command += ["--decode", self.decode] if self.decode else []
        return [*command, self.folder(setting)]

    def peer(self, who: str, setting: Setting) -> list:
        more = ["--images", self.folder(setting), "--out", self.out(who, setting)] + (["--draft"] if who == "draft" else [])
        return self.peer_command(who, setting, "extract", *more)

    def figures(self, who: str, setting: Setting, stdout: str) -> dict:
        return {**super().figures(who, setting, stdout), "images": self.count(setting)}

    def agree(self, who: str, setting: Setting) -> float:
        ours, theirs = np.load(self.out("tl", setting)), np.load(self.out(who, setting))
        with open(f"{self.out('tl', setting)}.index.csv", newline="") as file:
            paths = [row["path"] for row in csv.DictReader(file)]
        if ours.shape != theirs.shape or len(ours) != self.count(setting) or paths != sorted(paths):
            raise Failed(f"tl wrote features {ours.shape} in another order or number than the peer's {theirs.shape}")
        if not np.isfinite(ours).all():
            raise Failed("tl wrote features that are not finite")
        if self.decode or who == "draft":
            return self.agree_nearly(ours, theirs)
        return within(relative(ours, theirs).max(), 1e-4, "features")

    def agree_nearly(self, ours, theirs) -> float:
        """Images decoded at a smaller size give other features. They must still be those of the same image: differ by
        much less than the images differ from each other."""
        ours, theirs = ours - theirs.mean(0), theirs - theirs.mean(0)
        return within(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs), 0.2, "features, less their mean,")


def memory_of(count: int) -> Extract:
    """Peak memory, not time: with a small network."""
    return Extract("shufflenet_v2_x0_5", "tiny", exactly=count, peers=("best",), memory=True, repeat=0.6)


class ColdStart(Case):
    """One image, from the start of the process to the answer in a file."""

    repeat = 3.0
    whole_program = True

    def images(self, setting: Setting) -> dict:
        return {"photographs": max(8, setting.images)}

    def out(self, who: str, setting: Setting) -> Path:
        return setting.scratch(f"cold-{who}.{'jsonl' if who == 'tl' else 'json'}")

    def tl(self, setting: Setting) -> list:
        command = [setting.tl, "predict", "--model", self.model, "--weights", setting.weights(self.model)]
        command += ["--device", "cpu", "--threads", setting.threads, "--out", self.out("tl", setting), "--quiet"]
        return [*command, self.folder(setting) / "00000.jpg"]

    def peer(self, who: str, setting: Setting) -> list:
        image = self.folder(setting) / "00000.jpg"
        return self.peer_command(who, setting, "predict", "--image", image, "--out", self.out(who, setting))

    def agree(self, who: str, setting: Setting) -> float:
        ours, theirs = (json.loads(self.out(name, setting).read_text()) for name in ("tl", who))
        if ours["label"] != theirs["label"]:
            raise Failed(f"tl says {ours['label']}, the peer {theirs['label']}")
        return within(abs(ours["confidence"] / theirs["confidence"] - 1), 1e-3, "confidence")


class Train(Case):
    """`tl finetune` on labelled images."""

    method = ""
    epochs = 1
    share = 0.5

    def images(self, setting: Setting) -> dict:
        return {"labelled": max(32, int(setting.images * self.share))}

    def strategy(self) -> list:
        return [f"strategy.method={self.method}"]

    def tl(self, setting: Setting) -> list:
        recipe, images = setting.scratch(f"{self.name}.yaml"), self.folder(setting)
        lines = [f"model: {self.model}", f"weights: {setting.weights(self.model)}"]
        lines.append(f"data: {{ train: {images / 'train'}, val: {images / 'val'} }}")
        recipe.write_text("\n".join(lines) + "\n")
        command = [setting.tl, "finetune", recipe, "--out", self.run(setting), "--overwrite", "--quiet"]
        command += ["--device", "cpu", "--threads", setting.threads]
        return command + [word for key in self.strategy() for word in ("--set", key)]

    def run(self, setting: Setting) -> Path:
        return setting.scratch(f"{self.name}-run")

    def report(self, setting: Setting) -> dict:
        return json.loads((self.run(setting) / "report.json").read_text())


@dataclass
class Linear(Train):
    """A linear classifier on a frozen network. The peer's is trained in 20 passes over the images."""

    name: str = "linear-head"
    method = "linear"
    epochs = 20
    repeat = 0.5

    def peer(self, who: str, setting: Setting) -> list:
        # The rate with the best accuracy of 0.001, 0.01, 0.03 and 0.1.
        more = ["--images", self.folder(setting), "--epochs", self.epochs, "--lr", "0.03"]
        return self.peer_command(who, setting, "linear", *more)

    def figures(self, who: str, setting: Setting, stdout: str) -> dict:
        if who == "tl":
            found = self.report(setting)["val"]["accuracy"]
        else:
            found = json.loads(stdout.splitlines()[-1])["accuracy"]
            # Kept for `agree`, which sees files only.
            setting.scratch(f"{self.name}-{who}.json").write_text(json.dumps(found))
        return {**super().figures(who, setting, stdout), "accuracy": found}

    def agree(self, who: str, setting: Setting) -> float:
        ours = self.report(setting)["val"]["accuracy"]
        theirs = json.loads(setting.scratch(f"{self.name}-{who}.json").read_text())
        # Of a quarter as many images as are trained on, two standard errors are chance.
        images = max(32, int(setting.images * self.share)) // 4
        if ours < theirs - 2 * (theirs * (1 - theirs) / images) ** 0.5:
            raise Failed(f"tl's validation accuracy is {ours:.3f}, the peer's {theirs:.3f}")
        return abs(ours - theirs)


@dataclass
class FineTune(Train):
    """The time of a training epoch with random crops and flips, by each one's own clock, loading included."""

    name: str
    method: str
    train_from: str = ""
    epochs = 3
    repeat = 0.7

    def strategy(self) -> list:
        """What the peer does too; the rest is at its default."""
        keys = [*super().strategy(), f"train.epochs={self.epochs}", "train.batch_size=32", "train.lr=0.01"]
        keys += ["train.head_lr=0.01", "train.schedule=constant", "train.warmup_epochs=0", "train.weight_decay=0.0005"]
        keys += ["train.decay_norm_and_bias=true", "train.batch_norm=train", "train.linear_head_first=false"]
        return keys + ([f"strategy.train_from={self.train_from}"] if self.train_from else [])

    def peer(self, who: str, setting: Setting) -> list:
        more = ["--images", self.folder(setting), "--epochs", self.epochs]
        more += ["--train-from", self.train_from] if self.train_from else []
        return self.peer_command(who, setting, "finetune", *more)

    def figures(self, who: str, setting: Setting, stdout: str) -> dict:
        if who == "tl":
            images = self.images(setting)["labelled"]
            rows = [json.loads(line) for line in (self.run(setting) / "metrics.jsonl").read_text().splitlines()]
            rows = [{"seconds": images / row["images_per_second"], "loss": row["train_loss"]} for row in rows]
        else:
            rows = json.loads(stdout.splitlines()[-1])["epochs"]
        setting.scratch(f"{self.name}-{who}.json").write_text(json.dumps(rows))
        seconds = sorted(row["seconds"] for row in rows)
        return {"work": seconds[len(seconds) // 2], "losses": [round(row["loss"], 4) for row in rows]}

    def agree(self, who: str, setting: Setting) -> float:
        """The order of the images and their crops are drawn by other generators, so losses are alike, not equal."""
        ours, theirs = (json.loads(setting.scratch(f"{self.name}-{name}.json").read_text()) for name in ("tl", who))
        ours, theirs = (np.mean([row["loss"] for row in rows]) for rows in (ours, theirs))
        return within(abs(ours / theirs - 1), 0.3, "mean training loss")


def relative(ours, theirs):
    """Of each row: the length of the difference, over the length of the peer's."""
    return np.linalg.norm(ours - theirs, axis=1) / np.linalg.norm(theirs, axis=1)


def within(found: float, limit: float, what: str) -> float:
    if not found <= limit:
        raise Failed(f"the {what} of tl and of the peer differ by {found:.2g} relative, {limit:g} is allowed")
    return float(found)


# In the order of the table.
CASES = {
    "extract-resnet18": Extract("resnet18"),
    "extract-resnet50": Extract("resnet50", repeat=0.7),
    "extract-mobilenet_v2": Extract("mobilenet_v2"),
    "extract-vit_b_16": Extract("vit_b_16", share=0.5, repeat=0.5),
    "extract-12mp": Extract("resnet18", "large", share=0.25),
    "extract-12mp-fast": Extract("resnet18", "large", 0.25, "fast", ("default", "best", "draft")),
    "cold-start": ColdStart(),
    "linear-head": Linear(),
    "partial-epoch": FineTune("partial-epoch", "partial", "layer4"),
    "full-epoch": FineTune("full-epoch", "full"),
    "memory-1000": memory_of(1000),
    "memory-10000": memory_of(10000),
}
