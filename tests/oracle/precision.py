"""What torch.autocast and torch.amp.GradScaler do on the CPU, for the tests of src/device/precision.rs.

    python tests/oracle/precision.py OUT_DIR

Writes steps.json (training steps of torchvision's networks in fp32, bf16 and fp16, with weights and inputs from a
hash) and scaler.json (a loss scale over thousands of steps, some of which overflow).
"""

import json
import pathlib
import sys

import torch
import torchvision
from models import filled, inputs
from torch.nn.functional import cross_entropy

STEPS = 3
SIDE = 64
IMAGES = 4
# One of each kind of operations: plain convolutions, depthwise ones with squeeze-and-excitation, attention.
NETWORKS = {"resnet18": SIDE, "mobilenet_v3_small": SIDE, "swin_t": SIDE}
KINDS = {"fp32": None, "bf16": torch.bfloat16}


def still(model: torch.nn.Module) -> torch.nn.Module:
    """BatchNorm in inference mode and no dropout: rounding stays rounding."""
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout | torchvision.ops.StochasticDepth):
            module.p = 0.0
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    return model


def steps(name: str, side: int, kind: torch.dtype | None) -> list:
    model = still(filled(name))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    images, labels = inputs(IMAGES, side), torch.arange(IMAGES) * 7
    rows = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=kind or torch.bfloat16, enabled=kind is not None):
            loss = cross_entropy(model(images), labels, label_smoothing=0.1)
        loss.backward()
        norm = sum((p.grad.double() ** 2).sum() for p in model.parameters()) ** 0.5
        rows.append({"loss": loss.item(), "gradient_norm": norm.item()})
        optimizer.step()
    return rows


# The steps whose gradient is not finite, and those whose numbers are written down.
OVERFLOWS = {0: float("inf"), 1: float("nan"), 7: float("-inf"), 2100: float("inf"), 4200: float("inf")}
WRITTEN = [0, 1, 2, 7, 8, 2006, 2007, 2008, 2100, 2101, 4099, 4100, 4101, 4102, 4200, 4201, 6200, 6201, 6202]


def scaler() -> list:
    """A parameter with the gradient 0.5 but in the steps that overflow."""
    param = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.SGD([param], lr=2.0**-12)
    scale = torch.amp.GradScaler("cpu")
    rows = []
    for step in range(max(WRITTEN) + 1):
        optimizer.zero_grad()
        loss = (param * torch.tensor([0.5, 0.25, 1.0])).sum()
        scale.scale(loss).backward()
        if step in OVERFLOWS:
            param.grad[1] = OVERFLOWS[step]
        scale.unscale_(optimizer)
        scale.step(optimizer)
        scale.update()
        if step in WRITTEN:
            state = scale.state_dict()
            rows.append(
                {
                    "step": step,
                    "scale": state["scale"],
                    "good_steps": state["_growth_tracker"],
                    "param": param.tolist(),
                }
            )
    return rows


def main(out_dir: str) -> None:
    torch.set_num_threads(2)
    out = pathlib.Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    networks = {
        name: {"side": side} | {kind: steps(name, side, dtype) for kind, dtype in KINDS.items()}
        for name, side in NETWORKS.items()
    }
    (out / "steps.json").write_text(json.dumps(networks, indent=1) + "\n")
    overflows = {str(step): str(value) for step, value in OVERFLOWS.items()}
    (out / "scaler.json").write_text(json.dumps({"overflows": overflows, "rows": scaler()}, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
