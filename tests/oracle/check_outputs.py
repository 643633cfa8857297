"""Reads what `tl`'s output writers wrote with numpy, pyarrow and safetensors, and compares every value.

The files are those of the unit test `every_format_for_other_readers` (src/output/tests.rs): taken from
the folder given, else made by `cargo test`.
"""

import csv
import io
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet
from safetensors import safe_open

DIM = 5
NAMES = [
    ("photos/cat/a.jpg", "cat"),
    ('photos/dog, big/b "the best".jpg', "dog, big"),
    ("photos/ä/日本.png", "ä"),
    ("line\nend.png", ""),
    ("back\\slash.png", "x\ty"),
    ("lossy-\ufffd.png", "cat"),
]
COLUMNS = ["path", "label", "confidence", "label_2", "confidence_2", "label_3", "confidence_3", "error"]


def expected(rows):
    """The values of `features` in src/output/tests.rs, as bit patterns and names."""
    odd = np.array([0.1, -0.0, 1e-42, np.finfo("f4").max, np.finfo("f4").tiny, 16777217, 1 / 3, 1e-7], "f4")
    values = np.empty((rows, DIM), "f4")
    for row in range(rows):
        at = [odd[(row + i) % 8] for i in range(3)]
        values[row] = [row, at[0], at[1], -at[2], np.sqrt(np.float32(row))]
    return values, [NAMES[row % len(NAMES)] for row in range(rows)]


def same(found, rows):
    values, _ = expected(rows)
    assert found.dtype == np.float32 and found.shape == values.shape, (found.dtype, found.shape)
    assert np.array_equal(found.view("u4"), values.view("u4"))


def check_features(folder, stem, rows):
    values, names = expected(rows)

    array = np.load(folder / f"{stem}.npy")
    same(array, rows)
    assert array.flags.c_contiguous
    again = io.BytesIO()
    np.save(again, array)
    assert again.getvalue() == (folder / f"{stem}.npy").read_bytes(), "not the bytes that numpy writes"
    np.load(folder / f"{stem}.npy", mmap_mode="r")
    with open(folder / f"{stem}.npy.index.csv", newline="", encoding="utf-8") as file:
        index = list(csv.reader(file))
    assert index == [["path", "label"], *map(list, names)]

    table = pa.parquet.read_table(folder / f"{stem}.parquet")
    assert table.column_names == ["path", "label", "features"]
    kind = table.schema.field("features").type
    assert pa.types.is_fixed_size_list(kind) and kind.list_size == DIM and kind.value_type == pa.float32(), kind
    assert list(zip(table["path"].to_pylist(), table["label"].to_pylist())) == names
    same(table["features"].combine_chunks().flatten().to_numpy().reshape(rows, DIM), rows)

    with safe_open(folder / f"{stem}.safetensors", "np") as file:
        assert list(file.keys()) == ["features"]
        same(file.get_tensor("features"), rows)
        metadata = file.metadata()
    assert list(zip(json.loads(metadata["paths"]), json.loads(metadata["labels"]))) == names
    assert len(json.loads(metadata["paths"])) == rows

    with open(folder / f"{stem}.csv", newline="", encoding="utf-8") as file:
        table = list(csv.reader(file))
    assert table[0] == ["path", "label", *(f"f{i}" for i in range(DIM))]
    assert [tuple(row[:2]) for row in table[1:]] == names
    same(np.array([row[2:] for row in table[1:]], "f4").reshape(rows, DIM), rows)


def check_predictions(folder):
    none = [None] * 6
    rows = [
        ["a.jpg", "cat", 0.7, "dog, big", 0.1, "ä", 1e-9, None],
        ['b "x".jpg', *none, 'cannot decode, "really"'],
        ["c.jpg", "dog, big", 1.0, *none[2:], None],
        ["d.jpg", *none, "half"],
    ]

    def narrow(row):
        return [float(np.float32(cell)) if isinstance(cell, float) else cell for cell in row]

    with open(folder / "predictions.csv", newline="", encoding="utf-8") as file:
        table = list(csv.reader(file))
    assert table[0] == COLUMNS
    assert [[("" if cell is None else cell) for cell in row] for row in rows] == [
        [float(cell) if 0 < at < 7 and at % 2 == 0 and cell else cell for at, cell in enumerate(row)] for row in table[1:]
    ]
    lines = (folder / "predictions.jsonl").read_text("utf-8").splitlines()
    objects = [json.loads(line) for line in lines]
    assert all(list(each) == COLUMNS for each in objects)
    assert [list(each.values()) for each in objects] == rows
    assert pa.json.read_json(folder / "predictions.jsonl").column_names == COLUMNS

    table = pa.parquet.read_table(folder / "predictions.parquet")
    assert table.column_names == COLUMNS
    assert table.schema.field("confidence_2").type == pa.float32()
    assert [list(each.values()) for each in table.to_pylist()] == [narrow(row) for row in rows]


def check(folder):
    check_features(folder, "features", 100)
    check_features(folder, "empty", 0)
    assert np.load(folder / "failures.npy").shape == (0, DIM)
    assert pa.csv.read_csv(folder / "failures.npy.errors.csv").to_pylist() == [
        {"path": "bad, file.jpg", "error": 'cannot decode "it"'}
    ]
    check_predictions(folder)
    print("numpy, pyarrow and safetensors read every output as it was meant")


def main(given):
    if given and Path(given).is_dir():
        return check(Path(given))
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "TL_TEST_OUTPUTS": folder}
        command = ["cargo", "test", "--release", "--locked", "--quiet", "--lib", "every_format_for_other_readers"]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        check(Path(folder))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
