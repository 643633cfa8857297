"""Writes batches of CIFAR's Python version with real numpy, in the ways that Python 2 and 3 pickle them.

    python tests/oracle/cifar.py OUT_DIR

Each holds two images. Python 2 is no more; its strings and its numpy's names are written here as it did, and Python 3
then confirms that it reads them.
"""

import io
import pathlib
import pickle
import struct
import sys

import numpy

IMAGES = 2


def pixels() -> numpy.ndarray:
    index, byte = numpy.ogrid[:IMAGES, :3072]
    return ((7 * index + 3 * byte + byte // 256) % 256).astype(numpy.uint8)


class Python2(pickle._Pickler):
    """Bytes and text are Python 2's strings."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_string(self, value) -> None:
        data = value.encode() if isinstance(value, str) else value
        if len(data) < 256:
            self.write(pickle.SHORT_BINSTRING + struct.pack("<B", len(data)) + data)
        else:
            self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)
        self.memoize(value)

    dispatch[bytes] = save_string
    dispatch[str] = save_string


def python2(value) -> bytes:
    out = io.BytesIO()
    Python2(out, protocol=2).dump(value)
    data = out.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    read = pickle.loads(data, encoding="bytes")
    if b"data" in read:
        assert (read[b"data"] == value["data"]).all()
    return data


def main(out_dir: str) -> None:
    out = pathlib.Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    names = [f"image_{index}.png" for index in range(IMAGES)]
    batch = {"batch_label": "a batch", "labels": [1, 0], "data": pixels(), "filenames": names}
    (out / "python2").write_bytes(python2(batch))
    meta = {"num_cases_per_batch": 10000, "label_names": ["cat", "dog"], "num_vis": 3072}
    (out / "python2.meta").write_bytes(python2(meta))
    hundred = {"filenames": names, "fine_labels": [1, 0], "coarse_labels": [0, 0], "data": pixels()}
    (out / "hundred.python2").write_bytes(python2(hundred))
    meta = {"fine_label_names": ["apple", "bear"], "coarse_label_names": ["thing"]}
    (out / "hundred.python2.meta").write_bytes(python2(meta))
    for protocol in (2, 4, 5):
        (out / f"python3-{protocol}").write_bytes(pickle.dumps(batch, protocol=protocol))
    columns = {**batch, "data": numpy.asfortranarray(pixels())}
    (out / "columns").write_bytes(pickle.dumps(columns, protocol=4))
    floats = {**batch, "data": pixels().astype(numpy.float32)[:, :4]}
    (out / "floats").write_bytes(pickle.dumps(floats, protocol=4))


if __name__ == "__main__":
    main(sys.argv[1])
