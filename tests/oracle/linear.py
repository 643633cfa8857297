"""What scikit-learn's LogisticRegression finds, for the tests of src/linear/.

    python tests/oracle/linear.py OUT_DIR

Writes logistic.json. Features come from a hash of their position, so both sides make the same ones.
"""

import json
import sys
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

MASK = (1 << 64) - 1
STRENGTHS = [0.1, 10.0, 1000.0]
CASES = [
    {"name": "two classes", "images": 120, "features": 16, "classes": 2},
    {"name": "two classes, weighted", "images": 90, "features": 12, "classes": 2, "class_weights": [0.5, 3.0]},
    {"name": "three classes", "images": 120, "features": 24, "classes": 3},
    {"name": "three classes, weighted", "images": 120, "features": 20, "classes": 3, "class_weights": [1.0, 4.0, 0.25]},
    {"name": "ten classes", "images": 120, "features": 40, "classes": 10},
    {"name": "more features than images", "images": 30, "features": 50, "classes": 3},
    {"name": "more features than images, two classes", "images": 20, "features": 40, "classes": 2},
    {"name": "two blocks", "images": 60, "features": 30, "classes": 3, "blocks": [10, 20]},
    {"name": "without biases", "images": 120, "features": 24, "classes": 3, "intercept": False},
    {"name": "two classes without biases", "images": 40, "features": 50, "classes": 2, "intercept": False},
]


def uniform(stream, index):
    """Splitmix64, top 24 bits, in [-0.5, 0.5)."""
    z = (stream * 0x9E3779B97F4A7C15 + (index + 1) * 0xD1B54A32D192ED03) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    z ^= z >> 31
    return (z >> 40) / float(1 << 24) - 0.5


def made(stream, images, features, classes):
    """Overlapping classes in correlated features of different scales; the second feature is constant."""
    x, y = np.empty((images, features), np.float32), []
    for i in range(images):
        label = i % classes
        y.append(label)
        for j in range(features):
            value = uniform(stream, i * features + j)
            value += 0.5 * uniform(stream + 1, label * features + j)
            value += 2.0 * uniform(stream + 2, i) * uniform(stream + 3, j)
            x[i, j] = np.float32((value + 0.25 * (j % 3)) * (1 + j % 7)) if j != 1 else 0.7
    return x, np.array(y)


def scaled(x, blocks, centre):
    """Centred, and each block over its root mean square, so that the mean of the squared lengths is 1."""
    x = x - x.mean(axis=0) if centre else x
    parts = np.split(x, np.cumsum(blocks)[:-1], axis=1)
    return np.concatenate([part / np.sqrt((part**2).mean() * x.shape[1]) for part in parts], axis=1)


def solve(case, stream):
    x, y = made(stream, case["images"], case["features"], case["classes"])
    intercept = case.get("intercept", True)
    x = scaled(x.astype(np.float64), case.get("blocks", [case["features"]]), intercept)
    weights = dict(enumerate(case.get("class_weights", [1.0] * case["classes"])))
    fits = []
    for c in STRENGTHS:
        settings = {"C": c, "class_weight": weights, "max_iter": 100_000, "fit_intercept": intercept}
        # All solvers minimise the same function; this one gets closest. The default is checked against it.
        fit = LogisticRegression(solver="newton-cg", tol=1e-12, **settings).fit(x, y)
        default = LogisticRegression(tol=1e-10, **settings).fit(x, y)
        assert np.abs(fit.coef_ - default.coef_).max() < 1e-3, (case["name"], c)
        assert (fit.predict(x) == default.predict(x)).all(), (case["name"], c)
        fits.append(
            {
                "c": c,
                "coef": [round(float(v), 6) for v in fit.coef_.ravel()],
                "intercept": [round(float(v), 6) for v in np.atleast_1d(fit.intercept_)],
                "predictions": fit.predict(x).tolist(),
                "first_probabilities": [round(float(v), 6) for v in fit.predict_proba(x)[0]],
            }
        )
    return {**case, "stream": stream, "fits": fits}


def main(out_dir):
    out = Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    cases = [solve(case, 10 * (i + 1)) for i, case in enumerate(CASES)]
    lines = ",\n".join(json.dumps(case) for case in cases)
    (out / "logistic.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main(sys.argv[1])
