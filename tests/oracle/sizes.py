"""Networks at sizes that their weights were not made for, with weights and inputs from a hash.

Embeddings of positions as torchvision's `interpolate_embeddings` resamples them, and the logits of networks whose
images have another size: a vision transformer with such an embedding, Swin with windows that have to be padded, MaxViT
built for more partitions. Run as `python tests/oracle/sizes.py OUT_DIR`.
"""

import pathlib
import sys

import torch
from models import filled, inputs, values
from safetensors.numpy import save_file
from torchvision.models.vision_transformer import interpolate_embeddings

KEY = "encoder.pos_embedding"
# The sides of grids of patches, from and to.
GRIDS = [(14, 24), (14, 7), (14, 15), (14, 1), (7, 37), (1, 3)]
WIDTH = 3
# Model, side of the images, the builder's name for it if it has one.
NETWORKS = [
    ("vit_b_16", 112, "image_size"),
    ("vit_b_16", 384, "image_size"),
    ("vit_b_32", 64, "image_size"),
    ("swin_t", 100, None),
    ("swin_t", 256, None),
    ("swin_v2_t", 100, None),
    ("swin_v2_t", 224, None),
    ("maxvit_t", 448, "input_size"),
]
PATCHES = {"vit_b_16": 16, "vit_b_32": 32}


def logits(name: str, side: int, argument: str | None) -> torch.Tensor:
    kwargs = {argument: (side, side) if argument == "input_size" else side} if argument else {}
    if name in PATCHES:
        state = interpolate_embeddings(side, PATCHES[name], filled(name).state_dict())
        model = filled(name, **kwargs)
        model.load_state_dict(state, strict=True)
    else:
        model = filled(name, **kwargs)
    with torch.no_grad():
        return model.eval()(inputs(1, side))


def main(out_dir: str) -> None:
    out = pathlib.Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    tensors = {}
    for old, new in GRIDS:
        state = {KEY: torch.from_numpy(values(KEY, (1, old * old + 1, WIDTH)))}
        resampled = interpolate_embeddings(new, 1, state)[KEY]
        tensors[f"grid.{old}.{new}"] = resampled.contiguous().numpy()
    for name, side, argument in NETWORKS:
        tensors[f"{name}.{side}"] = logits(name, side, argument).numpy()
    save_file(tensors, out / "sizes.safetensors")


if __name__ == "__main__":
    main(*sys.argv[1:])
