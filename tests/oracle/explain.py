"""Heat maps of torchvision's networks, with weights and inputs from a hash (see models.py), taken with hooks.

`python tests/oracle/explain.py OUT_DIR` writes maps.safetensors: for each case `MODEL STAGE CLASS METHOD`, with `-` for
the most likely class, the maps `[N, h, w]` of Grad-CAM and LayerCAM at the stage's resolution, each divided by its
largest value. A stage has the name that src/models gives it; `-` is the last one that has places.
"""

import pathlib
import sys

import torch
from safetensors.torch import save_file

from models import SIZES, filled, inputs

# The smallest network of each family: its module at the last stage with places, or at another one.
CASES = [
    ("alexnet", "-", None, lambda m: m.features),
    ("convnext_tiny", "-", None, lambda m: m.features),
    # The last stage has a ReLU that is no module of torchvision's.
    ("densenet121", "denseblock4", None, lambda m: m.features.denseblock4),
    ("efficientnet_b0", "-", None, lambda m: m.features),
    ("efficientnet_lite0", "-", None, lambda m: m.bn2),
    ("googlenet", "-", None, lambda m: m.inception5b),
    ("inception_v3", "-", None, lambda m: m.Mixed_7c),
    ("maxvit_t", "-", None, lambda m: m.blocks[-1]),
    ("mnasnet0_5", "-", None, lambda m: m.layers),
    ("mobilenet_v2", "-", None, lambda m: m.features),
    ("mobilenet_v3_small", "-", None, lambda m: m.features),
    ("regnet_y_400mf", "-", None, lambda m: m.trunk_output),
    ("resnet18", "-", None, lambda m: m.layer4),
    ("resnet18", "-", 7, lambda m: m.layer4),
    ("resnet18", "layer2", 7, lambda m: m.layer2),
    ("shufflenet_v2_x0_5", "-", None, lambda m: m.conv5),
    ("squeezenet1_1", "-", None, lambda m: m.features),
    ("swin_t", "-", None, lambda m: m.features),
    ("swin_v2_t", "stage3", 7, lambda m: m.features[5]),
    ("vgg11", "-", None, lambda m: m.features),
    # Behind the last block only the class token is read.
    ("vit_b_16", "-", None, lambda m: m.encoder.layers.encoder_layer_10),
]


def places(name: str, xs: torch.Tensor) -> torch.Tensor:
    """A stage's output as `[N, C, h, w]`."""
    if name.startswith("swin"):
        return xs.permute(0, 3, 1, 2)
    if name.startswith("vit"):
        patches = xs[:, 1:].transpose(1, 2)
        return patches.unflatten(2, (int(patches.shape[2] ** 0.5),) * 2)
    return xs


def maps(name: str, wanted: int | None, module) -> dict:
    model = filled(name).eval()
    kept = []

    def keep(_module, _args, output):
        kept.append(output)
        # The rest of the network may change its input in place.
        return output.clone()

    module(model).register_forward_hook(keep)
    side, images = SIZES.get(name, (96, 2))
    logits = model(inputs(images, side))
    classes = logits.argmax(1) if wanted is None else torch.full((images,), wanted)
    [gradient] = torch.autograd.grad(logits.gather(1, classes[:, None]).sum(), kept)
    outputs, gradients = (places(name, xs.detach()) for xs in (kept[0], gradient))
    made = {
        "gradcam": (gradients.mean((2, 3), keepdim=True) * outputs).sum(1).relu(),
        "layercam": (gradients.relu() * outputs).sum(1).relu(),
    }
    # Where nothing speaks for the class the map stays zero.
    most = {method: xs.amax((1, 2), keepdim=True) for method, xs in made.items()}
    return {method: (xs / most[method].where(most[method] > 0, 1)).contiguous() for method, xs in made.items()}


def main(out_dir: str) -> None:
    out = pathlib.Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    tensors = {}
    for name, stage, wanted, module in CASES:
        for method, xs in maps(name, wanted, module).items():
            # A transformer's outputs have both signs: LayerCAM, made for those behind a ReLU, may find nothing.
            assert method == "layercam" or (xs.amax((1, 2)) == 1).all(), f"{name}: nothing speaks for the class"
            tensors[f"{name} {stage} {'-' if wanted is None else wanted} {method}"] = xs
    save_file(tensors, out / "maps.safetensors")


if __name__ == "__main__":
    main(sys.argv[1])
