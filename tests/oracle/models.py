"""Logits, features and one training step of torchvision's networks, with weights and inputs from a hash.

The weights are a function of key and index alone, so that no weight file is needed: the Rust side fills
the same values in (tests/it/filled.rs). Run as `python tests/oracle/models.py OUT_DIR`.
"""

import hashlib
import json
import pathlib
import re
import sys

import numpy as np
import torch
import torchvision
from safetensors.numpy import save_file

FAMILIES = r"alexnet|resnet|resnext|wide_resnet|shufflenet"
# Every family's training step, on one model of it.
STEPPED = ["alexnet", "resnet18", "resnext50_32x4d", "shufflenet_v2_x0_5"]
SIDE = 96
IMAGES = 2


def uniform(name: str, count: int) -> np.ndarray:
    """`count` numbers in [0, 1): the upper 24 bits of splitmix64 seeded by FNV-1a of `name`."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x100000001B3) % 2**64
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype(np.float64) / 2**24


def values(key: str, shape: tuple) -> np.ndarray:
    """The values of a state-dict entry: activations keep their scale through the depth."""
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, dtype=np.int64)
    u = uniform(key, int(np.prod(shape)))
    if key.endswith("running_var") or (key.endswith("weight") and len(shape) == 1):
        u = 0.5 + u
    elif len(shape) == 1:
        u = 0.2 * (u - 0.5)
    else:
        u = (2 * u - 1) * np.sqrt(6 / np.prod(shape[1:]))
    return u.reshape(shape).astype(np.float32)


def filled(name: str) -> torch.nn.Module:
    model = torchvision.models.get_model(name, weights=None)
    state = {key: torch.from_numpy(values(key, tuple(t.shape))) for key, t in model.state_dict().items()}
    model.load_state_dict(state, strict=True)
    return model


def inputs(images: int) -> torch.Tensor:
    u = uniform("input", images * 3 * SIDE * SIDE)
    return torch.from_numpy(((2 * u - 1) * 2).reshape(images, 3, SIDE, SIDE).astype(np.float32))


def listing(model: torch.nn.Module) -> str:
    """sha256 over a line for each entry of the state dict: key, shape, dtype, in order."""
    lines = "".join(f"{k} {list(t.shape)} {str(t.dtype)[6:]}\n" for k, t in model.state_dict().items())
    return hashlib.sha256(lines.encode()).hexdigest()


def final_layer(model: torch.nn.Module) -> torch.nn.Module:
    return [module for module in model.modules() if isinstance(module, torch.nn.Linear)][-1]


def training_step(model: torch.nn.Module) -> dict:
    """Loss, gradient norm and statistics of one step in training mode, without dropout."""
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    labels = torch.arange(4) * 7
    loss = torch.nn.functional.cross_entropy(model(inputs(4)), labels, label_smoothing=0.1)
    loss.backward()
    # In float64: a float32 sum over 60 million squares is off by 1e-3.
    norm = sum((p.grad.double() ** 2).sum() for p in model.parameters()) ** 0.5
    buffers = [t.double() for k, t in model.state_dict().items() if k.endswith(("running_mean", "running_var"))]
    return {
        "loss": loss.item(),
        "gradient_norm": norm.item(),
        "statistics_norm": float(sum((b**2).sum() for b in buffers) ** 0.5) if buffers else 0.0,
    }


def main(out_dir: str) -> None:
    out = pathlib.Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    tensors, facts = {}, {}
    for name in torchvision.models.list_models(module=torchvision.models):
        if not re.match(FAMILIES, name):
            continue
        model = filled(name).eval()
        kept = []
        final_layer(model).register_forward_pre_hook(lambda _, args: kept.append(args[0]))
        with torch.no_grad():
            logits = model(inputs(IMAGES))
        tensors[f"{name}.logits"] = logits.numpy()
        tensors[f"{name}.features"] = kept[0].numpy()
        facts[name] = {"listing": listing(model), "parameters": sum(p.numel() for p in model.parameters())}
        if name in STEPPED:
            facts[name]["step"] = training_step(filled(name))
    save_file(tensors, out / "outputs.safetensors")
    (out / "facts.json").write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
