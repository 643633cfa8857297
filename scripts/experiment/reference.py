#!/usr/bin/env python3
"""What PyTorch and scikit-learn do with the same network and the same images: the references of photos.py.

    python3 scripts/experiment/reference.py tutorial|sklearn < SPEC.json

reads what photos.py asks for (model, weights, preprocess, lists of images, seed, threads) and prints one line of JSON:
the mean cross-entropy on the test images, and for each of them the confidence of the prediction and whether it is right.

tutorial  PyTorch's tutorial on transfer learning, "Finetuning the ConvNet": a new random head, all weights trained with
          BatchNorm in train mode, SGD 0.001 with momentum 0.9, a tenth of it after every 7 epochs of 25, random crops and
          flips; the epoch with the best accuracy on the validation images is kept. Batches are of 4 as in the tutorial,
          which has 244 images; with more images they are larger in proportion, 32 at most.
sklearn   Logistic regression on the features that the network has before its classifier, fitted to the training images; C
          has the best cross-entropy in stratified cross-validation inside them. The validation images are not used. The
          features are not standardised: with a few images the deviations are noise, which cost 3 to 12 points.

The network is timm's, the weights those of `tl`'s own file: its tensors are matched in their order, as the names differ.
"""

import copy
import csv
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegressionCV
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold
from torch.utils.data import DataLoader
from torchvision import transforms

TIMM_NAMES = {f"efficientnet_lite{n}": f"tf_efficientnet_lite{n}" for n in range(5)}  # with TensorFlow's padding
EPOCHS = 25
STRENGTHS = np.logspace(-5, 3, 17)


class Images(torch.utils.data.Dataset):
    """The images of a CSV of path,label."""

    def __init__(self, path, classes, transform):
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
        self.files = [Path(path).parent / row["path"] for row in rows]
        self.labels = [classes.index(row["label"]) for row in rows]
        self.transform = transform

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        with Image.open(self.files[index]) as image:
            return self.transform(image.convert("RGB")), self.labels[index]


def main() -> int:
    method, spec = sys.argv[1], json.load(sys.stdin)
    torch.set_num_threads(spec["threads"])
    torch.manual_seed(spec["seed"])
    random_crop, centre = changes(spec["preprocess"])
    train, val, test = (Images(spec["lists"][part], spec["classes"], centre) for part in ("train", "val", "test"))
    network = pretrained(spec["model"], spec["weights"])
    if method == "tutorial":
        network.reset_classifier(len(spec["classes"]))
        train.transform = random_crop
        best_epoch, val_accuracy = finetune(network, train, val)
        probabilities = infer(network, test).softmax(1).double().numpy()
        told = {"epochs": EPOCHS, "best_epoch": best_epoch, "val_accuracy": val_accuracy}
    else:
        network.reset_classifier(0)
        features, measured = infer(network, train).numpy(), infer(network, test).numpy()
        probabilities, strength = regress(features, train.labels, measured, spec["seed"])
        told = {"epochs": 0, "c": strength}
    probabilities /= probabilities.sum(1, keepdims=True)
    right = probabilities.argmax(1) == np.array(test.labels)
    told["loss"] = log_loss(test.labels, probabilities, labels=range(len(spec["classes"])))
    told["confidence"], told["right"] = probabilities.max(1).tolist(), right.tolist()
    print(json.dumps(told))
    return 0


def changes(preprocess):
    """Torchvision's transforms for training and for measuring."""
    filters = {"bilinear": transforms.InterpolationMode.BILINEAR, "bicubic": transforms.InterpolationMode.BICUBIC}
    how, side = filters[preprocess["interpolation"]], preprocess["crop_size"]
    end = [transforms.ToTensor(), transforms.Normalize(preprocess["mean"], preprocess["std"])]
    random_crop = [transforms.RandomResizedCrop(side, interpolation=how), transforms.RandomHorizontalFlip()]
    centre = [transforms.Resize(preprocess["resize_size"], interpolation=how), transforms.CenterCrop(side)]
    return transforms.Compose(random_crop + end), transforms.Compose(centre + end)


def pretrained(model, weights):
    network = timm.create_model(TIMM_NAMES.get(model, model))
    if weights != "none":
        if weights.endswith(".safetensors"):
            from safetensors.torch import load_file as load
        else:
            load = torch.load
        counters = "num_batches_tracked"
        theirs = [value for name, value in load(weights).items() if not name.endswith(counters)]
        state = network.state_dict()
        ours = [name for name in state if not name.endswith(counters)]
        if [value.shape for value in theirs] != [state[name].shape for name in ours]:
            sys.exit(f"{weights} does not hold timm's {model}, tensor by tensor")
        network.load_state_dict({**state, **dict(zip(ours, theirs))})
    return network


@torch.inference_mode()
def infer(network, images):
    network.eval()
    return torch.cat([network(batch) for batch, _ in DataLoader(images, 32)])


def finetune(network, train, val):
    """The tutorial's loop; leaves the best epoch's weights, and returns its number and accuracy."""
    size = min(32, max(4, 4 * (len(train) // 244)))
    # A batch of one image has no statistics where the last map is a single pixel.
    batches = DataLoader(train, size, shuffle=True, drop_last=len(train) % size == 1)
    loss_of = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.001, momentum=0.9)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.1)
    best, kept = (0, -1.0), None
    for epoch in range(1, EPOCHS + 1):
        network.train()
        for images, labels in batches:
            optimizer.zero_grad()
            loss_of(network(images), labels).backward()
            optimizer.step()
        schedule.step()
        accuracy = (infer(network, val).argmax(1) == torch.tensor(val.labels)).double().mean().item()
        if accuracy > best[1]:
            best, kept = (epoch, accuracy), copy.deepcopy(network.state_dict())
    network.load_state_dict(kept)
    return best


def regress(train, labels, test, seed):
    """The probabilities of the test images, and the C that was chosen."""
    folds = StratifiedKFold(min(5, np.bincount(labels).min()), shuffle=True, random_state=seed)
    regression = LogisticRegressionCV(Cs=STRENGTHS, cv=folds, scoring="neg_log_loss", max_iter=1000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what later versions will call things
        regression.fit(train, labels)
    return regression.predict_proba(test), float(np.ravel(regression.C_)[0])


if __name__ == "__main__":
    sys.exit(main())
