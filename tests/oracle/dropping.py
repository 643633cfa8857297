"""What torchvision's networks, and timm's, drop in training: each dropout and each stochastic depth, in the order of execution.

    python tests/oracle/dropping.py OUT_DIR

The functions themselves are watched, and not the modules: a residual block without a shortcut owns a stochastic depth
that never runs, and Swin's blocks run theirs twice. Rates are taken of all builders, on PyTorch's device without
memory. Of one or two builders a family, whose weights and images come from a hash (models.py), there is also the norm
of what goes into each, which tells its place in the network. What has a rate of 0 is not listed.
"""

import json
import pathlib
import sys
from unittest import mock

import torch

from models import KWARGS, SIZES, TIMM, built, filled, inputs, names

# Builders of each family that has rates. ViT and DenseNet have a rate of 0 as torchvision builds them.
PLACES = [
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_lite0", "efficientnet_v2_s", "googlenet",
    "inception_v3", "maxvit_t", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "squeezenet1_1", "swin_t", "swin_v2_t", "vgg11",
    "vit_b_32",
]
IMAGES = 2
# timm's builders take the rates as arguments. These are TensorFlow's (`models/official/efficientnet/lite/
# efficientnet_lite_builder.py` in its `tpu` repository: `dropout_rate`, and 1 - `survival_prob`).
RATES = {name: {"drop_rate": 0.3 if name[-1] in "234" else 0.2, "drop_path_rate": 0.2} for name in TIMM}


def sites(model, images):
    """Kind, rate and input of all that drops in training, with nothing dropped and BatchNorm in inference mode."""
    found = []

    def dropout(xs, p=0.5, training=True, inplace=False):
        if p > 0:
            found.append(("numbers", p, xs))
        return xs

    def stochastic_depth(xs, p, mode, training=True):
        assert mode == "row" and training
        if p > 0:
            found.append(("images", p, xs.clone()))
        return xs

    def drop_path(xs, p=0.0, training=False, scale_by_keep=True):
        return stochastic_depth(xs, p, "row", training)

    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    with (
        torch.no_grad(),
        mock.patch("torch.nn.functional.dropout", dropout),
        mock.patch("torchvision.ops.stochastic_depth.stochastic_depth", stochastic_depth),
        mock.patch("timm.layers.drop.drop_path", drop_path),
    ):
        model(images)
    return found


def rates(name):
    side = 299 if name == "inception_v3" else 224
    with torch.device("meta"):
        kwargs = {"init_weights": False, "aux_logits": True} if name in KWARGS else RATES.get(name, {})
        model = built(name, **kwargs)
        found = sites(model, torch.zeros(IMAGES, 3, side, side))
    return [[kind, round(p, 12)] for kind, p, _ in found]


def norms(name):
    kwargs = {"aux_logits": True} if name == "googlenet" else RATES.get(name, {})
    side = SIZES.get(name, (96, IMAGES))[0]
    found = sites(filled(name, **kwargs), inputs(IMAGES, side))
    return {"side": side, "norms": [float(f"{xs.double().norm().item():.9g}") for _, _, xs in found]}


def main(out_dir):
    out = pathlib.Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    # RegNet's file has nothing that drops, and its builder computes with numbers that this device does not have.
    facts = {name: {"sites": rates(name)} for name in names() if "regnet" not in name}
    for name in PLACES:
        facts[name] |= norms(name)
        assert len(facts[name]["norms"]) == len(facts[name]["sites"]), name
    lines = [f"{json.dumps(name)}: {json.dumps(facts[name], sort_keys=True)}" for name in sorted(facts)]
    (out / "dropping.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
