"""Logits, features and one training step of torchvision's networks, with weights and inputs from a hash.

The weights are a function of key and index alone, so that no weight file is needed: the Rust side fills
the same values in (tests/it/filled.rs). A pair of files for each family of src/models. Run as
`python tests/oracle/models.py OUT_DIR [FAMILY...]`.
"""

import hashlib
import json
import pathlib
import re
import sys

import numpy as np
import timm
import torch
import torchvision
from safetensors.numpy import save_file

# Families as src/models names them: which models, and which of them make a training step.
FAMILIES = {
    "alexnet": (r"alexnet", ["alexnet"]),
    "convnext": (r"convnext", ["convnext_tiny"]),
    "densenet": (r"densenet", ["densenet121"]),
    "efficientnet": (r"efficientnet_(b|v2)", ["efficientnet_b0", "efficientnet_b5", "efficientnet_v2_s"]),
    "efficientnet_lite": (r"efficientnet_lite", ["efficientnet_lite0"]),
    "googlenet": (r"googlenet", ["googlenet"]),
    "inception": (r"inception", ["inception_v3"]),
    "maxvit": (r"maxvit", ["maxvit_t"]),
    "mnasnet": (r"mnasnet", ["mnasnet0_5"]),
    "mobilenetv2": (r"mobilenet_v2", ["mobilenet_v2"]),
    "mobilenetv3": (r"mobilenet_v3", ["mobilenet_v3_small"]),
    "regnet": (r"regnet", ["regnet_x_400mf", "regnet_y_400mf"]),
    "resnet": (r"resnet|resnext|wide_resnet", ["resnet18", "resnext50_32x4d"]),
    "shufflenetv2": (r"shufflenet", ["shufflenet_v2_x0_5"]),
    "squeezenet": (r"squeezenet", ["squeezenet1_0"]),
    "swin_transformer": (r"swin", ["swin_t", "swin_v2_t"]),
    "vgg": (r"vgg", ["vgg11", "vgg11_bn"]),
    "vision_transformer": (r"vit", ["vit_b_16"]),
}
# Networks that torchvision lacks, and their builders in timm.
TIMM = {f"efficientnet_lite{n}": f"tf_efficientnet_lite{n}" for n in range(5)}
# Those that need another size than 96×96: (side, images). EfficientNet-Lite's padding depends on the size: of 101 pixels
# the strides of 2 see 101, 51, 26, 13 and 7, where it is even on some and not on others.
SIZES = {
    "efficientnet_lite1": (101, 2),
    "efficientnet_lite2": (130, 2),
    "inception_v3": (128, 2),
    "maxvit_t": (224, 2),
    "vit_b_16": (224, 2),
    "vit_b_32": (224, 2),
    "vit_h_14": (224, 1),
    "vit_l_16": (224, 1),
    "vit_l_32": (224, 1),
}
# Those whose training step is so deep, for four images, that float32 is off by more than the tolerance.
STEPS_IN_FLOAT64 = {"googlenet", "inception_v3", "regnet_x_400mf", "mobilenet_v2", "mobilenet_v3_small", "mnasnet0_5"}
STEPS_IN_FLOAT64 |= {"densenet121", "efficientnet_lite0", "efficientnet_b0", "efficientnet_b5", "efficientnet_v2_s", "resnext50_32x4d"}
# What the builders get besides: inference is compared without auxiliary classifiers.
KWARGS = {name: {"aux_logits": False, "init_weights": False} for name in ("googlenet", "inception_v3")}
# A training step with them: what their losses count (the papers' weights), and the side of the images.
AUXILIARIES = {"googlenet": (0.3, 96), "inception_v3": (0.4, 299)}


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


# The last normalisation of the residual branches of RegNet and of the mobile families (and, in some, of the
# first convolution): their trunks would grow until squeeze-and-excitation is all 0 or 1, and torchvision's own
# float32 is wrong in the first digit.
BRANCH_ENDS = (".f.c.1.weight", ".block.1.1.weight", ".block.2.1.weight", ".block.3.1.weight", ".conv.3.weight")
BRANCH_ENDS += (".layers.7.weight",)


def ends_branch(key: str) -> bool:
    # EfficientNet-Lite's is called as ResNet's, which is well as it is.
    return key.endswith(BRANCH_ENDS) or (key.startswith("blocks.") and key.endswith(".bn3.weight"))


def values(key: str, shape: tuple) -> np.ndarray:
    """The values of a state-dict entry: activations keep their scale through the depth."""
    u = uniform(key, int(np.prod(shape)))
    if key.endswith("running_var") or (key.endswith("weight") and len(shape) == 1):
        u = 0.5 + u
        u *= 0.25 if ends_branch(key) else 1
    elif len(shape) == 1:
        u = 0.2 * (u - 0.5)
    else:
        u = (2 * u - 1) * np.sqrt(6 / np.prod(shape[1:]))
        # MaxViT's convolutions on a residual path: with running statistics that are not the data's own they
        # would feed on themselves until float32 itself is off by 1e-4.
        if key.endswith("conv_c.weight"):
            u *= 0.1
    return u.reshape(shape).astype(np.float32)


def names() -> list:
    """All networks, torchvision's in its order."""
    return [*torchvision.models.list_models(module=torchvision.models), *TIMM]


def built(name: str, **kwargs) -> torch.nn.Module:
    if name in TIMM:
        return timm.create_model(TIMM[name], pretrained=False, **kwargs)
    return torchvision.models.get_model(name, weights=None, **kwargs)


def filled(name: str, **kwargs) -> torch.nn.Module:
    model = built(name, **(KWARGS.get(name, {}) | kwargs))
    parameters = dict(model.named_parameters())
    # Other buffers, such as tables of relative positions, follow from the architecture.
    trained = lambda key: key in parameters or key.endswith(("running_mean", "running_var"))
    state = model.state_dict()
    state |= {key: torch.from_numpy(values(key, tuple(t.shape))) for key, t in state.items() if trained(key)}
    model.load_state_dict(state, strict=True)
    return model


def inputs(images: int, side: int) -> torch.Tensor:
    u = uniform("input", images * 3 * side * side)
    return torch.from_numpy(((2 * u - 1) * 2).reshape(images, 3, side, side).astype(np.float32))


def listing(model: torch.nn.Module, prefixes: tuple = ("",)) -> str:
    """sha256 over a line for each entry of the state dict: key, shape, dtype, in order."""
    entries = [(k, t) for k, t in model.state_dict().items() if k.startswith(prefixes)]
    lines = "".join(f"{k} {list(t.shape)} {str(t.dtype)[6:]}\n" for k, t in entries)
    return hashlib.sha256(lines.encode()).hexdigest()


def final_layer(model: torch.nn.Module) -> torch.nn.Module:
    """SqueezeNet's is a convolution, and no linear layer stands before it."""
    of = lambda kind: [module for module in model.modules() if isinstance(module, kind)]
    return (of(torch.nn.Linear) or of(torch.nn.Conv2d))[-1]


def training_step(model: torch.nn.Module, side: int, dtype: torch.dtype, auxiliary_weight: float = 0) -> dict:
    """Loss, gradient norm and statistics of one step in training mode, without dropout."""
    model.train().to(dtype)
    for module in model.modules():
        if isinstance(module, (torch.nn.Dropout, torchvision.ops.StochasticDepth)):
            module.p = 0.0
    labels = torch.arange(4) * 7
    loss_of = lambda logits: torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.1)
    outputs = model(inputs(4, side).to(dtype))
    if isinstance(outputs, tuple):
        loss = loss_of(outputs[0]) + auxiliary_weight * sum(loss_of(logits) for logits in outputs[1:])
    else:
        loss = loss_of(outputs)
    loss.backward()
    # In float64: a float32 sum over 60 million squares is off by 1e-3.
    norm = sum((p.grad.double() ** 2).sum() for p in model.parameters()) ** 0.5
    buffers = [t.double() for k, t in model.state_dict().items() if k.endswith(("running_mean", "running_var"))]
    return {
        "loss": loss.item(),
        "gradient_norm": norm.item(),
        "statistics_norm": float(sum((b**2).sum() for b in buffers) ** 0.5) if buffers else 0.0,
    }


def family(out: pathlib.Path, family: str, pattern: str, stepped: list) -> None:
    tensors, facts = {}, {}
    for name in names():
        if not re.match(pattern, name):
            continue
        side, images = SIZES.get(name, (96, 2))
        model = filled(name).eval()
        kept = []
        final_layer(model).register_forward_pre_hook(lambda _, args: kept.append(args[0]))
        with torch.no_grad():
            logits = model(inputs(images, side))
        tensors[f"{name}.logits"] = logits.numpy()
        features = kept[0].mean((2, 3)) if kept[0].dim() == 4 else kept[0]
        # safetensors writes an array's memory as it lies, whatever its strides.
        tensors[f"{name}.features"] = features.contiguous().numpy()
        if name in KWARGS:
            with torch.no_grad():
                logits = filled(name, transform_input=True).eval()(inputs(images, side))
            tensors[f"{name}.transform_input.logits"] = logits.numpy()
        parameters = sum(p.numel() for p in model.parameters())
        facts[name] = {"listing": listing(model), "parameters": parameters, "side": side, "images": images}
        if name in stepped:
            dtype = torch.float64 if name in STEPS_IN_FLOAT64 else torch.float32
            facts[name]["step"] = training_step(filled(name), side, dtype) | {"dtype": str(dtype)[6:]}
        if name in AUXILIARIES:
            weight, side = AUXILIARIES[name]
            model = filled(name, aux_logits=True)
            facts[name]["auxiliaries"] = {
                "listing": listing(model, ("aux", "Aux")),
                "side": side,
                "weight": weight,
                "step": training_step(model, side, torch.float64, weight),
            }
    save_file(tensors, out / f"{family}.safetensors")
    (out / f"{family}.json").write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")


def main(out_dir: str, *families: str) -> None:
    out = pathlib.Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    for name in families or FAMILIES:
        family(out, name, *FAMILIES[name])


if __name__ == "__main__":
    main(*sys.argv[1:])
