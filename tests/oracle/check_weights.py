"""Compares src/models/weights.csv with what torchvision says of its weights. Run as
`python tests/oracle/check_weights.py --write` it writes the table anew.

A row is an entry of a weights enum, in torchvision's order: what is published, how accurate it is, and how its images
are prepared (`weights.transforms()`). Accuracies are `nan` where torchvision gives none.
"""

import difflib
import math
import pathlib
import sys

from torchvision import models

TABLE = pathlib.Path(__file__).parents[2] / "src" / "models" / "weights.csv"
COLUMNS = "model,enum,tag,default,file,parameters,gflops,top1,top5,resize,crop,interpolation,mean,std"


def row(name: str, weights: models.Weights) -> str:
    meta, preset = weights.meta, weights.transforms()
    accuracy = meta["_metrics"].get("ImageNet-1K", {})
    [resize], [crop] = preset.resize_size, preset.crop_size
    cells = [
        name,
        type(weights).__name__,
        weights.name,
        "yes" if weights is type(weights).DEFAULT else "no",
        weights.url.rsplit("/", 1)[1],
        meta["num_params"],
        meta["_ops"],
        *(accuracy.get(f"acc@{k}") or math.nan for k in (1, 5)),
        resize,
        crop,
        preset.interpolation.value,
        " ".join(map(str, preset.mean)),
        " ".join(map(str, preset.std)),
    ]
    return ",".join(map(str, cells))


def main(argument: str) -> None:
    names = models.list_models(module=models)
    made = [COLUMNS, *(row(name, weights) for name in names for weights in models.get_model_weights(name))]
    if argument == "--write":
        TABLE.write_text("".join(f"{line}\n" for line in made))
        return
    committed = TABLE.read_text().splitlines()
    if made != committed:
        print("\n".join(difflib.unified_diff(committed, made, str(TABLE), "torchvision", lineterm="", n=0)))
        sys.exit(1)
    print(f"{len(made) - 1} entries are torchvision's")


if __name__ == "__main__":
    main(sys.argv[1])
