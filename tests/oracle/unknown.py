"""How strange images are, for the tests of src/unknown/: written from the papers, with whole matrices.

    python tests/oracle/unknown.py OUT_DIR

Writes unknown.json: features and logits of training, validation and other images, and the share of images like the
validation images that are less strange than each of the others.
"""

import json
import sys
from pathlib import Path

import numpy as np
from scipy.special import log_softmax
from scipy.stats import t

DIRECTIONS, EVEN = 16, 0.1
CASES = [
    {"name": "more images than features", "images": 90, "features": 24, "classes": 3},
    {"name": "more features than images", "images": 20, "features": 40, "classes": 4},
    {"name": "an image a class", "images": 3, "features": 12, "classes": 3},
]


def covariance(x, means, labels):
    """Probabilistic principal components of what is within the classes, a tenth of it spread evenly."""
    within = x - means[labels]
    values, vectors = np.linalg.eigh(within.T @ within / len(x))
    d, total = x.shape[1], values.sum()
    rank = min(DIRECTIONS, int((values > 1e-6 * values[-1]).sum())) if total > 0 else 0
    top, axes = values[::-1][:rank], vectors[:, ::-1][:, :rank]
    even = EVEN * total / d
    rest = (1 - EVEN) * (total - top.sum()) / max(d - rank, 1) + even
    return rest * (np.eye(d) - axes @ axes.T) + axes @ np.diag((1 - EVEN) * top + even) @ axes.T, rest


def distances(x, means, sigma, rest):
    """Squared Mahalanobis distance from the nearest class, in units of the even rest."""
    inverse = np.linalg.inv(sigma) * rest if rest > 0 else np.eye(x.shape[1])
    return np.array([min((row - mean) @ inverse @ (row - mean) for mean in means) for row in x])


def shares(train, labels, val, others):
    unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
    x = unit(train)
    means = np.stack([x[labels == label].mean(axis=0) for label in sorted(set(labels))])
    sigma, rest = covariance(x, means, labels)
    parts = []
    for part in (
        [distances(unit(features), means, sigma, rest) for features, _ in (val, others)],
        [log_softmax(logits, axis=1).mean(axis=1) for _, logits in (val, others)],
    ):
        mean, deviation = part[0].mean(), part[0].std(ddof=1)
        parts.append([(values - mean) / deviation for values in part])
    of_val, of_others = (a + b for a, b in zip(*parts))
    n = len(of_val)
    return t.cdf(of_others / (of_val.std(ddof=1) * np.sqrt(1 + 1 / n)), n - 1)


def made(case, seed):
    draw = np.random.default_rng(seed)
    k, d = case["classes"], case["features"]
    centres, stretch = draw.normal(size=(k, d)), np.exp(draw.normal(size=d))
    weight = draw.normal(size=(k, d))

    def images(labels, noise):
        x = 2 + centres[labels] + noise * draw.normal(size=(len(labels), d)) * stretch
        x = x.round(3)
        return x, (x @ weight.T / 4).round(3)

    labels = np.arange(case["images"]) % k
    train, _ = images(labels, 0.5)
    val = images(np.arange(9) % k, 0.5)
    known, far = images(np.arange(4) % k, 0.5), images(np.arange(4) % k, 3.0)
    return train, labels, val, tuple(np.concatenate(pair) for pair in zip(known, far))


def main(out_dir):
    cases = []
    for seed, case in enumerate(CASES):
        train, labels, val, others = made(case, seed)
        found = shares(train, labels, val, others)
        cases.append(
            case
            | {
                "train": train.tolist(),
                "labels": labels.tolist(),
                "val": {"features": val[0].tolist(), "logits": val[1].tolist()},
                "others": {"features": others[0].tolist(), "logits": others[1].tolist()},
                "shares": [round(float(share), 6) for share in found],
            }
        )
    Path(out_dir).mkdir(parents=True, exist_ok=True)
    Path(out_dir, "unknown.json").write_text(json.dumps(cases) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
