#!/usr/bin/env python3
"""Prototype of the similarity measures: each one, for each task, source network and number of images.

    ~/.cache/tl/oracle/bin/python scripts/experiment/measure.py [--tasks T,...] [--threads N]

appends lines of JSON to build/experiment/measures.jsonl. A measure says how far a task's images are from what the
network was trained on. Those named `bn_*` compare the activations at each BatchNorm's input, channel by channel as
Gaussians over images and positions, with its running statistics; `cls_*` look at what the source's classifier answers;
`probe_*` and `logme` use the labels.
"""

import argparse
import json
import random
import struct
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import run
import tasks

warnings.filterwarnings("ignore")
STAGES = {
    "shufflenet_v2_x0_5": ("maxpool", "stage2", "stage3", "stage4", "conv5"),
    "shufflenet_v2_x1_0": ("maxpool", "stage2", "stage3", "stage4", "conv5"),
    "resnet18": ("maxpool", "layer1", "layer2", "layer3", "layer4"),
}
KINDS = {"F32": (torch.float32, 4), "I64": (torch.int64, 8)}


def load(path):
    """torchvision's network filled from a file of `tl`, and the file's metadata."""
    data = Path(path).read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    about = json.loads(header.pop("__metadata__")["tl"])
    state = {}
    for name, entry in header.items():
        kind, _ = KINDS[entry["dtype"]]
        first, last = entry["data_offsets"]
        flat = torch.frombuffer(bytearray(data[8 + length + first : 8 + length + last]), dtype=kind)
        state[name] = flat.reshape(entry["shape"])
    network = torchvision.models.get_model(about["architecture"], num_classes=len(about["classes"]))
    network.load_state_dict(state, strict=True)
    return network.eval(), about


def pixels(files, about):
    """A batch as the file's preprocessing says. The tasks' images are square: a resize is all."""
    how = about["preprocessing"]
    side = how["crop_size"]
    images = [np.asarray(Image.open(f).convert("RGB").resize((side, side), Image.Resampling.BILINEAR)) for f in files]
    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    return (batch - torch.tensor(how["mean"])[:, None, None]) / torch.tensor(how["std"])[:, None, None]


def sample(folder, count, seed):
    """`count` images, equally many of each class: (files, labels)."""
    labels = sorted(path.name for path in folder.iterdir())
    files, numbers = [], []
    for number, name in enumerate(labels):
        images = sorted((folder / name).glob("*.png"))
        drawn = random.Random(f"{seed}/{name}").sample(images, min(max(2, count // len(labels)), len(images)))
        files += drawn
        numbers += [number] * len(drawn)
    return files, np.array(numbers)


def activations(network, about, batch, batch_statistics=False):
    """Inputs' statistics at each BatchNorm, each stage's pooled features, the top features and the logits."""
    norms, pooled, hooks = [], {}, []

    def at_norm(module, inputs):
        x = inputs[0].double()
        norms.append((module, x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)))

    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            hooks.append(module.register_forward_pre_hook(at_norm))
            module.training = batch_statistics
    for name in STAGES[about["architecture"]]:
        hook = lambda _, __, out, name=name: pooled.__setitem__(name, out.mean((2, 3)).numpy())  # noqa: E731
        hooks.append(network.get_submodule(name).register_forward_hook(hook))
    with torch.no_grad():
        logits = network(batch)
    for hook in hooks:
        hook.remove()
    return norms, pooled, logits


def bn_measures(norms):
    kinds = {}
    for module, mean, var in norms:
        eps = module.eps
        m, v = module.running_mean.double(), module.running_var.double() + eps
        var = var + eps
        shift = (mean - m) ** 2 / v
        ratio = var / v
        kl = 0.5 * (shift + ratio - 1 - ratio.log())
        back = 0.5 * ((mean - m) ** 2 / var + 1 / ratio - 1 + ratio.log())
        layer = {
            "kl": kl,
            "klback": back,
            "sym": 0.5 * (kl + back),
            "w2": shift + (ratio.sqrt() - 1) ** 2,
            "shift": shift.sqrt(),
            "logvar": ratio.log().abs(),
            "log1pkl": kl.log1p(),
            # Bhattacharyya: bounded growth in either direction
            "bhat": 0.25 * (mean - m) ** 2 / (var + v) + 0.5 * ((var + v) / (2 * (var * v).sqrt())).log(),
        }
        for name, values in layer.items():
            kinds.setdefault(name, []).append(values)
    out = {}
    for name, layers in kinds.items():
        means = np.array([float(values.mean()) for values in layers])
        medians = np.array([float(values.median()) for values in layers])
        third = max(1, len(layers) // 3)
        out[f"bn_{name}"] = means.mean()
        out[f"bn_{name}_median"] = float(np.median(medians))
        out[f"bn_{name}_chmed"] = medians.mean()
        out[f"bn_{name}_first"] = means[:third].mean()
        out[f"bn_{name}_last"] = means[-third:].mean()
    out["bn_layers_kl"] = [round(float(v.mean()), 3) for v in kinds["kl"]]
    return out


def classifier_measures(network, features, logits):
    p = logits.double().softmax(1)
    classes = p.shape[1]
    entropy = float(-(p * p.clamp_min(1e-12).log()).sum(1).mean() / np.log(classes))
    mean = p.mean(0)
    spread = float(-(mean * mean.clamp_min(1e-12).log()).sum() / np.log(classes))
    weight = list(network.modules())[-1].weight.detach().double()
    cos = torch.nn.functional.normalize(torch.from_numpy(features).double(), dim=1) @ torch.nn.functional.normalize(weight, dim=1).T
    return {
        "cls_confidence": float(p.max(1).values.mean()),
        "cls_entropy": entropy,
        "cls_mean_entropy": spread,
        "cls_information": spread - entropy,
        "cls_energy": float(torch.logsumexp(logits.double(), 1).mean()),
        "cls_margin": float((logits.topk(2, 1).values @ torch.tensor([1.0, -1.0])).mean()),
        "cls_cosine": float(cos.max(1).values.mean()),
        "feat_norm": float(np.linalg.norm(features, axis=1).mean()),
    }


def logme(features, labels):
    """LogME (You et al., ICML 2021), the mean over classes, by its fixed point."""
    f = features - features.mean(0)
    f = f / max(f.std(), 1e-9)
    n, d = f.shape
    u, s, _ = np.linalg.svd(f, full_matrices=False)
    sigma = s**2
    total = 0.0
    for k in np.unique(labels):
        y = (labels == k) - np.mean(labels == k)
        z2 = (u.T @ y) ** 2
        rest = max((y**2).sum() - z2.sum(), 0)
        alpha = beta = 1.0
        for _ in range(30):
            t = alpha / beta
            gamma = (sigma / (sigma + t)).sum()
            m2 = (sigma * z2 / (t + sigma) ** 2).sum()
            res2 = (z2 / (1 + sigma / t) ** 2).sum() + rest
            alpha, beta = gamma / (m2 + 1e-9), (n - gamma) / (res2 + 1e-9)
        total += 0.5 * (
            d * np.log(alpha) + n * np.log(beta) - np.log(alpha + beta * sigma).sum() - max(d - len(s), 0) * np.log(alpha)
            - beta * res2 - alpha * m2 - n * np.log(2 * np.pi)
        )
    return total / (n * len(np.unique(labels)))


def probe(features, labels, c=0.1):
    folds = min(5, np.bincount(labels).min())
    model = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=200))
    split = StratifiedKFold(folds, shuffle=True, random_state=0)
    return float(cross_val_score(model, features, labels, cv=split).mean())


def measure(network, about, fresh, folder, count, seed, probes=True):
    files, labels = sample(folder, count, seed)
    batch = pixels(files, about)
    started = time.time()
    norms, pooled, logits = activations(network, about, batch)
    top = pooled[STAGES[about["architecture"]][-1]]
    row = {"images": len(files), **bn_measures(norms), **classifier_measures(network, top, logits)}
    row["forward_seconds"] = time.time() - started
    if probes:
        started = time.time()
        row["logme"] = logme(top, labels)
        row["probe_top"] = probe(top, labels)
        for name, features in pooled.items():
            row[f"probe_{name}"] = probe(features, labels)
        row["probe_all"] = probe(np.concatenate(list(pooled.values()), 1), labels)
        _, random_pooled, _ = activations(fresh, about, batch, batch_statistics=True)
        row["probe_random"] = probe(np.concatenate(list(random_pooled.values()), 1), labels)
        small = torch.nn.functional.interpolate(batch, size=(12, 12), mode="area").flatten(1).numpy()
        row["probe_pixels"] = probe(small, labels, 0.01)
        row["probe_seconds"] = time.time() - started
    return row


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", default="development")
    parser.add_argument("--sources", default="letters,textures", help="of run.py")
    parser.add_argument("--counts", default="50,200,400")
    parser.add_argument("--no-probes", action="store_true")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--letters", type=Path, help="folder of the source's own letters, for the floor of each measure")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    groups = {"all": tasks.TASKS, **{g: [t for t in tasks.TASKS if t.group == g] for g in ("development", "held_out")}}
    chosen = groups.get(args.tasks) or [tasks.named(name) for name in args.tasks.split(",")]
    with (run.BUILD / "measures.jsonl").open("a") as file:
        for source in args.sources.split(","):
            weights = run.SOURCES[source][1]
            network, about = load(weights)
            torch.manual_seed(0)
            fresh = torchvision.models.get_model(about["architecture"], num_classes=10)
            own = args.letters if source == "letters" else run.BUILD / "source" / "val"
            folders = [("source itself", own, False)] if own else []
            folders += [(task.name, run.BUILD / "tasks" / task.name / "train", not args.no_probes) for task in chosen]
            for count in map(int, args.counts.split(",")):
                for seed in range(args.seeds if count < 400 else 1):
                    for name, folder, probes in folders:
                        row = measure(network, about, fresh, folder, count, seed, probes)
                        row = {"task": name, "source": source, "count": count, "seed": seed, **row}
                        file.write(json.dumps(row) + "\n")
                        file.flush()
                        print(source, count, seed, name, f"{row['bn_kl']:.2f}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
