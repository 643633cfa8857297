"""What torch.optim and torch.optim.lr_scheduler do, for the tests of src/optim/.

    python tests/oracle/optim.py OUT_DIR

Writes updates.json (parameters after each of a few steps) and schedules.json (learning-rate factors).
Parameters and gradients come from a hash of their position, so both sides make the same ones.
"""

import json
import sys
from pathlib import Path

import torch
from torch.optim import lr_scheduler

MASK = (1 << 64) - 1
STEPS = 20
KEPT = [1, 2, 5, 20]
# `late` has no gradient in the first steps: PyTorch leaves it alone until it has one.
SHAPES = {"early.weight": (4, 3), "early.bias": (4,), "late.weight": (5,)}
LATE_FROM = 3


def uniform(stream, index):
    """Splitmix64, top 24 bits, in [-0.5, 0.5): exact in float32."""
    z = (stream * 0x9E3779B97F4A7C15 + (index + 1) * 0xD1B54A32D192ED03) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    z ^= z >> 31
    return (z >> 40) / float(1 << 24) - 0.5


def filled(stream, shape):
    count = torch.Size(shape).numel()
    return torch.tensor([uniform(stream, i) for i in range(count)], dtype=torch.float32).reshape(shape)


UPDATES = [
    {"rule": "sgd", "momentum": 0.0, "nesterov": False, "weight_decay": 0.0},
    {"rule": "sgd", "momentum": 0.0, "nesterov": False, "weight_decay": 0.05},
    {"rule": "sgd", "momentum": 0.9, "nesterov": False, "weight_decay": 0.0},
    {"rule": "sgd", "momentum": 0.9, "nesterov": False, "weight_decay": 5e-4},
    {"rule": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 0.05},
    {"rule": "adamw", "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0},
    {"rule": "adamw", "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.05},
    {"rule": "adamw", "beta1": 0.5, "beta2": 0.9, "eps": 1e-3, "weight_decay": 0.3},
]
# Two groups: the first with its own learning rate and decay, the second as in body and head.
LRS = [0.05, 0.2]


def factor_at(step):
    return 1.0 - 0.03 * step


def update(case):
    params = {name: filled(i, shape).requires_grad_() for i, (name, shape) in enumerate(SHAPES.items())}
    groups = [
        {"params": [params["early.weight"], params["early.bias"]], "lr": LRS[0]},
        {"params": [params["late.weight"]], "lr": LRS[1], "weight_decay": 0.0},
    ]
    decay = case["weight_decay"]
    if case["rule"] == "sgd":
        optimizer = torch.optim.SGD(
            groups, lr=1.0, momentum=case["momentum"], nesterov=case["nesterov"], weight_decay=decay
        )
    else:
        betas = (case["beta1"], case["beta2"])
        optimizer = torch.optim.AdamW(groups, lr=1.0, betas=betas, eps=case["eps"], weight_decay=decay)
    kept = []
    for step in range(STEPS):
        optimizer.zero_grad()
        for i, (name, param) in enumerate(params.items()):
            if not name.startswith("late") or step >= LATE_FROM:
                param.grad = filled(100 + 10 * step + i, param.shape)
        for group, lr in zip(optimizer.param_groups, LRS):
            group["lr"] = lr * factor_at(step)
        optimizer.step()
        if step + 1 in KEPT:
            kept.append({name: param.detach().flatten().tolist() for name, param in params.items()})
    return {**case, "after": kept}


def clip(max_norm):
    params = [torch.zeros(shape).requires_grad_() for shape in SHAPES.values()]
    for i, param in enumerate(params[:2]):
        param.grad = filled(500 + i, param.shape)
    norm = torch.nn.utils.clip_grad_norm_(params, max_norm)
    return {"max_norm": max_norm, "norm": norm.item(), "grads": [p.grad.flatten().tolist() for p in params[:2]]}


def optimizer():
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)


def rates(optimizer, steps, advance):
    factors = []
    for step in range(steps):
        factors.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        advance(step)
    return factors


ACCURACIES = [0.5, 0.6, 0.6, 0.6, 0.60001, 0.7, 0.69, 0.68, 0.7, 0.65, 0.64, 0.71, float("nan"), 0.71, 0.2, 0.72]


def schedules():
    cases = []
    for warmup in [0, 1, 6]:
        epochs, per_epoch = 5, 4
        steps = epochs * per_epoch
        ramp = lambda opt: lr_scheduler.LinearLR(opt, 1 / max(warmup, 1), total_iters=max(warmup - 1, 0))
        base = {"warmup_steps": warmup, "steps_per_epoch": per_epoch, "epochs": epochs}

        opt = optimizer()
        scheduler = ramp(opt)
        factors = rates(opt, steps, lambda _: scheduler.step())
        cases.append({**base, "decay": "constant", "factors": factors})

        opt = optimizer()
        falling = lr_scheduler.CosineAnnealingLR(opt, T_max=steps - warmup)
        if warmup:
            falling = lr_scheduler.SequentialLR(opt, [ramp(opt), falling], milestones=[warmup])
        factors = rates(opt, steps, lambda _: falling.step())
        cases.append({**base, "decay": "cosine", "factors": factors})

        opt = optimizer()
        by_step, by_epoch = ramp(opt), lr_scheduler.StepLR(opt, step_size=2, gamma=0.1)

        def advance(step):
            by_step.step()
            if (step + 1) % per_epoch == 0:
                by_epoch.step()

        factors = rates(opt, steps, advance)
        cases.append({**base, "decay": "step", "step_epochs": 2, "gamma": 0.1, "factors": factors})

    for patience in [0, 1, 3]:
        opt = optimizer()
        plateau = lr_scheduler.ReduceLROnPlateau(opt, mode="max", factor=0.5, patience=patience)
        factors = rates(opt, len(ACCURACIES), lambda epoch: plateau.step(ACCURACIES[epoch]))
        cases.append(
            {
                "warmup_steps": 0,
                "steps_per_epoch": 1,
                "epochs": len(ACCURACIES),
                "decay": "plateau",
                "patience": patience,
                "gamma": 0.5,
                # JSON has no NaN.
                "history": [None if a != a else a for a in ACCURACIES],
                "factors": factors,
            }
        )
    return cases


def main(out_dir):
    out = Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    updates = {"updates": [update(case) for case in UPDATES], "clips": [clip(m) for m in [0.1, 1.0, 100.0]]}
    for name, value in [("updates", updates), ("schedules", schedules())]:
        (out / f"{name}.json").write_text(json.dumps(value, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
