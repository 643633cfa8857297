"""Compares two folders of fixtures: compare.py MADE COMMITTED.

Equal bytes are equal. Where the bytes differ, arrays and numbers may differ by RTOL (another processor sums in another
order), and all else (images, checkpoints, text) is a difference. Prints every difference; exits with 1 if there is one.
"""

import json
import math
import sys
from pathlib import Path

import numpy
from safetensors.numpy import load_file

RTOL = 1e-5


def arrays_differ(made, committed):
    if made.shape != committed.shape or made.dtype != committed.dtype:
        return f"{made.dtype}{list(made.shape)}, committed {committed.dtype}{list(committed.shape)}"
    if numpy.array_equal(made, committed, equal_nan=made.dtype.kind == "f"):
        return None
    if made.dtype.kind != "f":
        return f"{numpy.count_nonzero(made != committed)} values differ"
    scale = numpy.nanmax(numpy.abs(committed), initial=0.0)
    if numpy.allclose(made, committed, rtol=RTOL, atol=RTOL * scale, equal_nan=True):
        return None
    return f"differs by up to {numpy.nanmax(numpy.abs(made - committed)):g} where the largest is {scale:g}"


def dicts_of_arrays_differ(made, committed):
    if made.keys() != committed.keys():
        return f"other keys: {sorted(made.keys() ^ committed.keys())}"
    for key in made:
        if why := arrays_differ(made[key], committed[key]):
            return f"{key}: {why}"
    return None


def json_differs(made, committed, where="$"):
    if isinstance(made, dict) and isinstance(committed, dict):
        if made.keys() != committed.keys():
            return f"{where}: other keys: {sorted(made.keys() ^ committed.keys())}"
        pairs = ((f"{where}.{key}", made[key], committed[key]) for key in made)
    elif isinstance(made, list) and isinstance(committed, list):
        if len(made) != len(committed):
            return f"{where}: {len(made)} items, committed {len(committed)}"
        pairs = ((f"{where}[{i}]", *pair) for i, pair in enumerate(zip(made, committed)))
    elif isinstance(made, float) and isinstance(committed, float):
        same = made == committed or math.isclose(made, committed, rel_tol=RTOL, abs_tol=1e-7)
        return None if same else f"{where}: {made}, committed {committed}"
    else:
        same = type(made) is type(committed) and made == committed
        return None if same else f"{where}: {made!r}, committed {committed!r}"
    return next(filter(None, (json_differs(a, b, name) for name, a, b in pairs)), None)


def json_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def file_differs(made, committed):
    if made.read_bytes() == committed.read_bytes():
        return None
    match made.suffix:
        case ".npy":
            return arrays_differ(numpy.load(made), numpy.load(committed))
        case ".npz":
            return dicts_of_arrays_differ(dict(numpy.load(made)), dict(numpy.load(committed)))
        case ".safetensors":
            return dicts_of_arrays_differ(load_file(made), load_file(committed))
        case ".json":
            return json_differs(json.loads(made.read_text()), json.loads(committed.read_text()))
        case ".jsonl":
            return json_differs(json_lines(made), json_lines(committed))
        case _:
            return "other bytes"


def files(folder):
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


def compare(made, committed):
    if not committed.is_dir():
        return [f"{committed}: there is no such folder"]
    new, old = files(made), files(committed)
    differences = [f"{committed / name}: not committed" for name in sorted(new - old)]
    differences += [f"{committed / name}: no longer made" for name in sorted(old - new)]
    for name in sorted(new & old):
        if why := file_differs(made / name, committed / name):
            differences.append(f"{committed / name}: {why}")
    return differences


if __name__ == "__main__":
    found = compare(Path(sys.argv[1]), Path(sys.argv[2]))
    for line in found:
        print(line)
    sys.exit(bool(found))
