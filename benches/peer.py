#!/usr/bin/env python3
"""The peer: what `tl` is measured against, as one writes it with torchvision.

    peer.py weights    --model NAME --out FILE.pth [--images DIR]
    peer.py extract    --model NAME --weights FILE.pth --images DIR --out FILE.npy
    peer.py predict    --model NAME --weights FILE.pth --image FILE --out FILE.json
    peer.py linear     --model NAME --weights FILE.pth --images DIR --epochs N
    peer.py finetune   --model NAME --weights FILE.pth --images DIR --epochs N [--train-from STAGE]

Without `--best` it is written as in torchvision's documentation and tutorials: a Dataset of Pillow images with the
weights' own transforms, a DataLoader with workers and batches of 32, an eager network, `torch.no_grad()`. `--best` adds
the settings that cost a line each: channels-last memory, `torch.inference_mode()`, workers that live on from epoch to
epoch; on CUDA also autocast to bfloat16, pinned memory and copies that do not wait.

Prints one line of JSON: `work` is the time from here (all modules are imported) to the end, in seconds; what starting
Python and importing torch takes is not in it.
"""

import argparse
import contextlib
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import datasets, models, transforms

BATCH = 32
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


class Images(Dataset):
    """All images of a folder, in the order of their names."""

    def __init__(self, folder, transform, draft=False):
        self.paths = sorted(Path(folder).rglob("*.jpg"))
        self.transform = transform
        self.draft = draft

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        with Image.open(self.paths[index]) as image:
            if self.draft:
                # libjpeg decodes at 1/2, 1/4 or 1/8 of the size, at least twice of what is resized to.
                image.draft("RGB", (512, 512))
            return self.transform(image.convert("RGB"))


def entry(name):
    """The first weights of a network, whose transforms a bare weights file takes."""
    return next(iter(models.get_model_weights(name)))


def without_classifier(model):
    """The network up to the input of its last layer."""
    if hasattr(model, "fc"):
        model.fc = nn.Identity()
    elif hasattr(model, "heads"):
        model.heads.head = nn.Identity()
    else:
        model.classifier[-1] = nn.Identity()
    return model


def load(args):
    model = models.get_model(args.model, weights=None)
    model.load_state_dict(torch.load(args.weights, weights_only=True))
    return model


def to(args, batch):
    if args.best:
        return batch.to(args.device, non_blocking=True, memory_format=torch.channels_last)
    return batch.to(args.device)


def placed(args, model):
    model = model.to(args.device)
    return model.to(memory_format=torch.channels_last) if args.best else model


def without_gradient(args):
    """How inference is guarded, and its number format where there is a choice."""
    stack = contextlib.ExitStack()
    stack.enter_context(torch.inference_mode() if args.best else torch.no_grad())
    stack.enter_context(autocast(args))
    return stack


def autocast(args):
    cuda = args.best and args.device.startswith("cuda")
    return torch.autocast("cuda", torch.bfloat16) if cuda else contextlib.nullcontext()


def loader(args, dataset, **more):
    if args.best and args.workers:
        more["persistent_workers"] = True
        more["pin_memory"] = args.device.startswith("cuda")
    return DataLoader(dataset, batch_size=args.batch, num_workers=args.workers, **more)


def weights(args):
    """Random weights, the same for both: a network whose BatchNorm has seen some images, so that its features are as
    large as a trained one's, and has factors of its own, so that none of them can be forgotten unnoticed."""
    torch.manual_seed(0)
    model = models.get_model(args.model, weights=None)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.8, 1.2)
        nn.init.normal_(norm.bias, std=0.1)
        norm.momentum = None
    if norms and args.images:
        dataset = Images(args.images, entry(args.model).transforms())
        with torch.no_grad():
            model.train()(torch.stack([dataset[index] for index in range(min(32, len(dataset)))]))
    torch.save(model.state_dict(), args.out)
    return {}


def extract(args):
    model = placed(args, without_classifier(load(args)).eval())
    images = loader(args, Images(args.images, entry(args.model).transforms(), args.draft))
    rows = []
    with without_gradient(args):
        for batch in images:
            rows.append(model(to(args, batch)).float().cpu())
    np.save(args.out, torch.cat(rows).numpy())
    return {"images": sum(map(len, rows))}


def predict(args):
    chosen = entry(args.model)
    model = placed(args, load(args).eval())
    with Image.open(args.image) as image:
        batch = chosen.transforms()(image.convert("RGB")).unsqueeze(0)
    with without_gradient(args):
        probabilities = model(to(args, batch))[0].softmax(0)
    confidence, index = probabilities.max(0)
    answer = {"label": chosen.meta["categories"][index], "confidence": confidence.item()}
    Path(args.out).write_text(json.dumps(answer))
    return {}


def accuracy(args, model, images):
    right = total = 0
    model.eval()
    with without_gradient(args):
        for batch, labels in images:
            right += (model(to(args, batch)).argmax(1).cpu() == labels).sum().item()
            total += len(labels)
    return right / total


def labelled(args, train_transform):
    """The training and the validation images, as ImageFolder has them."""
    root = Path(args.images)
    train = datasets.ImageFolder(root / "train", train_transform)
    val = datasets.ImageFolder(root / "val", entry(args.model).transforms())
    return loader(args, train, shuffle=True), loader(args, val), len(train.classes)


def epochs(args, model, optimizer, frozen, images):
    """The training loop of the tutorials; one dict an epoch. `frozen` modules stay in inference mode."""
    train, val = images
    criterion = nn.CrossEntropyLoss()
    rows = []
    for _ in range(args.epochs):
        started, loss_sum, seen = time.perf_counter(), 0.0, 0
        model.train()
        for module in frozen:
            module.eval()
        for batch, labels in train:
            optimizer.zero_grad()
            with autocast(args):
                loss = criterion(model(to(args, batch)), labels.to(args.device))
            loss.backward()
            optimizer.step()
            loss_sum += loss.item() * len(labels)
            seen += len(labels)
        seconds = time.perf_counter() - started
        rows.append({"seconds": seconds, "loss": loss_sum / seen, "accuracy": accuracy(args, model, val)})
    return rows


def linear(args):
    """A new last layer on a frozen network, which runs in every epoch."""
    model = load(args)
    for parameter in model.parameters():
        parameter.requires_grad = False
    train, val, classes = labelled(args, entry(args.model).transforms())
    model.fc = nn.Linear(model.fc.in_features, classes)
    placed(args, model)
    optimizer = torch.optim.SGD(model.fc.parameters(), lr=args.lr, momentum=0.9)
    frozen = [child for name, child in model.named_children() if name != "fc"]
    rows = epochs(args, model, optimizer, frozen, (train, val))
    return {"accuracy": max(row["accuracy"] for row in rows), "epochs": rows}


def finetune(args):
    """All of the network, or what comes from `--train-from` on; random crops and flips."""
    augmented = transforms.Compose([
        transforms.RandomResizedCrop(224),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(MEAN, STD),
    ])
    train, val, classes = labelled(args, augmented)
    model = load(args)
    model.fc = nn.Linear(model.fc.in_features, classes)
    frozen = []
    for name, child in model.named_children() if args.train_from else ():
        if name == args.train_from:
            break
        frozen.append(child)
        for parameter in child.parameters():
            parameter.requires_grad = False
    placed(args, model)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=args.lr, momentum=0.9, weight_decay=5e-4)
    return {"epochs": epochs(args, model, optimizer, frozen, (train, val))}


def main():
    parser = argparse.ArgumentParser(description="What tl is measured against, in torchvision's way.")
    parser.add_argument("task", choices=("weights", "extract", "predict", "linear", "finetune"))
    parser.add_argument("--model", required=True)
    parser.add_argument("--weights")
    parser.add_argument("--images")
    parser.add_argument("--image")
    parser.add_argument("--out")
    parser.add_argument("--best", action="store_true")
    parser.add_argument("--draft", action="store_true", help="decode large JPEGs at a fraction of their size")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--train-from")
    args = parser.parse_args()
    started = time.perf_counter()
    result = globals()[args.task](args)
    if args.device.startswith("cuda"):
        torch.cuda.synchronize()
    versions = {"torch": torch.__version__, "torchvision": torchvision.__version__}
    print(json.dumps({"work": time.perf_counter() - started, **result, **versions}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
