"""Writes the checkpoint fixtures with real PyTorch, and the values that reading them has to give.

    python tests/oracle/checkpoints.py OUT_DIR

Every file is small and made of fixed numbers. The tar container, which PyTorch still reads but no
longer writes, is written here as PyTorch 0.1.9 did; PyTorch itself then confirms that it reads it.
"""

import argparse
import collections
import datetime
import io
import json
import pickle
import struct
import sys
import tarfile
import types
import warnings
from pathlib import Path

import numpy
import torch
import torch.utils.serialization.config as config
from safetensors.torch import save_file
from torch import nn

KINDS = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8",
    torch.uint8: "U8", torch.bool: "Bool",
}


def numbers(*shape, dtype=torch.float32, start=0):
    """Fixed values that every kind represents exactly."""
    count = int(torch.tensor(shape).prod()) if shape else 1
    values = (torch.arange(start, start + count) % 23 - 11) * 0.25
    if dtype is torch.uint8:
        values = torch.arange(start, start + count) % 23
    elif dtype is torch.bool:
        values = torch.arange(start, start + count) % 2 == 0
    elif not dtype.is_floating_point:
        values = torch.arange(start, start + count) % 23 - 11
    return values.to(dtype).reshape(shape)


def plain():
    """What a state dict of a convolutional network looks like."""
    return collections.OrderedDict([
        ("conv.weight", numbers(4, 3, 2, 2)),
        ("bn.weight", numbers(4, start=5)),
        ("bn.running_var", numbers(4, start=9).abs() + 1),
        ("bn.num_batches_tracked", torch.tensor(7)),
        ("fc.weight", numbers(2, 4, start=3)),
        ("fc.bias", numbers(2, start=1)),
    ])


def every_kind():
    return {KINDS[dtype]: numbers(2, 3, dtype=dtype) for dtype in KINDS}


def views():
    """Tensors that share a storage, or read it in another order."""
    base = numbers(6, 4)
    return {
        "base": base,
        "rows": base[2:4],
        "columns": base[:, 1:3],
        "transposed": base.t(),
        "permuted": base.reshape(2, 3, 4).permute(2, 0, 1),
        "every_other": base[::2, ::3],
        "expanded": base[1, 1].expand(3, 2),
        "scalar": base[3, 2],
        "empty": base[:0],
        "channels_last": numbers(2, 3, 2, 2).to(memory_format=torch.channels_last),
    }


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 2)
        self.bn = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(self.bn(self.conv(x)).mean((2, 3)))


def script():
    """A TorchScript module from a string: one from a file would hold the file's path."""
    module = torch.jit.ScriptModule()
    module.define("def forward(self, x):\n    return x * 2\n")
    return module


class NumberedKeys(type):
    """Stands for `str` inside of torch.serialization, whose legacy stream names storages by their
    addresses: here by numbers, so that equal runs give equal bytes."""

    known = {}

    def __call__(cls, value):
        if isinstance(value, int):
            return str(1000 + cls.known.setdefault(value, len(cls.known)))
        return str(value)

    def __instancecheck__(cls, value):
        return isinstance(value, str)


class KeyString(metaclass=NumberedKeys):
    pass


def net():
    model = Net()
    for index, parameter in enumerate(model.parameters()):
        parameter.data = numbers(*parameter.shape, start=index)
    return model


def training_checkpoint(model):
    """As the ImageNet example of PyTorch writes it, with what people add."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(numbers(1, 3, 4, 4)).sum().backward()
    optimizer.step()
    return {
        "epoch": 3,
        "arch": "net",
        "state_dict": nn.DataParallel(model).state_dict(),
        "best_acc1": torch.tensor(71.5),
        "optimizer": optimizer.state_dict(),
        "args": argparse.Namespace(lr=0.1, data="photos", since=datetime.datetime(2020, 1, 2)),
        "loss": numpy.float64(0.25),
        "history": [{"loss": 1.5, "seen": {1, 2}}, (1, 2.5, None, True, -3, 2**70)],
    }


class PersistentPickler(pickle.Pickler):
    """Python 2's pickle protocol with ids for tensors, as PyTorch 0.1.9 used it."""

    def __init__(self, file, ids):
        super().__init__(file, protocol=2)
        self.ids = ids

    def persistent_id(self, value):
        return str(self.ids[id(value)]) if isinstance(value, torch.Tensor) else None


def save_tar(state, path):
    """The tar of PyTorch 0.1.9. Tensors that share a storage share it here, one of them through a storage view."""
    roots, tensors = {}, []
    for value in state.values():
        roots.setdefault(value.untyped_storage().data_ptr(), (len(roots) + 1000, value))
    storages, records = io.BytesIO(), io.BytesIO()
    pickle.dump(len(roots), storages, protocol=2)
    for key, value in roots.values():
        pickle.dump((key, "cpu", getattr(torch, STORAGES[value.dtype])), storages, protocol=2)
        flat = torch.tensor([], dtype=value.dtype).set_(value.untyped_storage())
        storages.write(struct.pack("<q", flat.numel()))
        storages.write(flat.numpy().tobytes())
    storage_views, records_of, ids = [], [], {}
    for index, (name, value) in enumerate(state.items()):
        root, first = roots[value.untyped_storage().data_ptr()]
        offset = value.storage_offset()
        if value is not first and value.is_contiguous() and offset:
            view = 5000 + index
            storage_views.append((view, root, offset, value.numel()))
            root, offset = view, 0
        ids[id(value)] = 9000 + index
        records_of.append((9000 + index, root, value, offset))
    pickle.dump(storage_views, storages, protocol=2)
    pickle.dump(len(records_of), records, protocol=2)
    for key, root, value, offset in records_of:
        pickle.dump((key, root, torch.FloatTensor), records, protocol=2)
        records.write(struct.pack("<i4x", value.dim()))
        records.write(struct.pack(f"<{2 * value.dim()}q", *value.shape, *value.stride()))
        records.write(struct.pack("<q", offset))
    described = io.BytesIO()
    PersistentPickler(described, ids).dump(state)
    info = dict(protocol_version=1000, little_endian=True, type_sizes=dict(short=2, int=4, long=4))
    members = [
        ("sys_info", pickle.dumps(info, protocol=2)), ("pickle", described.getvalue()),
        ("tensors", records.getvalue()), ("storages", storages.getvalue()),
    ]
    with tarfile.open(path, "w:", format=tarfile.PAX_FORMAT) as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


STORAGES = {
    torch.float64: "DoubleStorage", torch.float32: "FloatStorage", torch.float16: "HalfStorage",
    torch.int64: "LongStorage", torch.int32: "IntStorage", torch.uint8: "ByteStorage",
}


def described(state):
    """The values that a reader has to give, in order. All are exact in decimal."""
    return [
        {
            "key": key,
            "dtype": KINDS[tensor.dtype],
            "shape": list(tensor.shape),
            "values": tensor.detach().double().reshape(-1).tolist(),
        }
        for key, tensor in state.items()
    ]


def safetensors_order(path):
    """The keys as the header has them: the writer sorts by kind."""
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    return [key for key in json.loads(data[8:8 + length]) if key != "__metadata__"]


def main(out_dir):
    out = Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    expected = {}

    torch.serialization.str = KeyString

    def save(name, value, state, **options):
        NumberedKeys.known.clear()
        torch.save(value, out / name, **options)
        expected[name] = described(state)

    legacy = {"_use_new_zipfile_serialization": False}
    save("plain.zip.pth", plain(), plain())
    save("plain.legacy.pth", plain(), plain(), **legacy)
    save("kinds.zip.pth", every_kind(), every_kind())
    save("kinds.legacy.pth", every_kind(), every_kind(), **legacy)
    save("views.zip.pth", views(), views())
    save("views.legacy.pth", views(), views(), **legacy)
    save("protocol1.legacy.pth", plain(), plain(), pickle_protocol=1, **legacy)
    save("protocol4.zip.pth", plain(), plain(), pickle_protocol=4)
    save("protocol5.zip.pth", plain(), plain(), pickle_protocol=5)
    save("parameters.zip.pth", dict(net().named_parameters()), dict(net().named_parameters()))
    save("module.zip.pth", nn.DataParallel(net()).state_dict(), net().state_dict())
    model = net()
    checkpoint = training_checkpoint(model)
    save("training.zip.pth", checkpoint, model.state_dict())
    save("training.legacy.pth", checkpoint, model.state_dict(), **legacy)
    save("nested.zip.pth", {"epoch": 1, "model": {"model_state_dict": plain()}}, plain())
    tagged = numbers(2, 2)
    tagged.note = "an attribute"
    save("attributes.zip.pth", {"tagged": tagged, "wide": nn.Parameter(numbers(2))}, {"tagged": tagged, "wide": numbers(2)})
    config.save.compute_crc32 = False
    save("no-checksums.zip.pth", plain(), plain())
    config.save.compute_crc32 = True

    old = {key: value for key, value in views().items() if key not in ("empty", "channels_last")}
    old["long"] = numbers(3, dtype=torch.int64)
    old["double"] = numbers(2, 2, dtype=torch.float64)
    old = collections.OrderedDict(old)
    save_tar(old, out / "views.tar.pth")
    confirmed = torch.load(out / "views.tar.pth", weights_only=False)
    assert list(confirmed) == list(old) and all(torch.equal(confirmed[key], old[key]) for key in old)
    expected["views.tar.pth"] = described(old)

    save_file(dict(plain()), out / "plain.safetensors", metadata={"note": "two\nlines"})
    kinds = every_kind()
    save_file(kinds, out / "kinds.safetensors")
    for name, state in ("plain.safetensors", plain()), ("kinds.safetensors", kinds):
        expected[name] = described({key: state[key] for key in safetensors_order(out / name)})

    # What has to be refused.
    torch.jit.save(script(), out / "torchscript.pt")
    sys.modules["net"] = types.ModuleType("net")
    sys.modules["net"].Net = Net
    Net.__module__ = "net"
    # The legacy stream would hold the classes' source files and their paths; without them it warns.
    torch.serialization.get_source_lines_and_file = None
    warnings.filterwarnings("ignore", message="Couldn't retrieve source code")
    torch.save(net(), out / "whole-module.zip.pth")
    NumberedKeys.known.clear()
    torch.save(net(), out / "whole-module.legacy.pth", **legacy)
    torch.save({"model": net(), "epoch": 1}, out / "whole-module-nested.zip.pth")
    torch.save({"a": numbers(2).to(torch.complex64)}, out / "complex.zip.pth")
    torch.save({"a": torch.quantize_per_tensor(numbers(2), 0.1, 0, torch.qint8)}, out / "quantised.zip.pth")
    torch.save({"a": numbers(2, 2).to_sparse()}, out / "sparse.zip.pth")
    torch.save({"a": numbers(2).to(torch.float8_e4m3fn)}, out / "float8.zip.pth")
    torch.save({"a": numbers(2, 2).numpy(), "b": numbers(2)}, out / "numpy.zip.pth")
    torch.save({"net": plain(), "epoch": 1}, out / "other-key.zip.pth")
    torch.save([numbers(2)], out / "list.zip.pth")
    torch.save({}, out / "empty-dict.zip.pth")
    (out / "plain-pickle.pth").write_bytes(pickle.dumps({"a": numbers(2).numpy()}))

    lines = ",\n".join(
        f"{json.dumps(name)}: [\n" + ",\n".join("  " + json.dumps(entry) for entry in entries) + "\n]"
        for name, entries in expected.items()
    )
    (out / "expected.json").write_text("{\n" + lines + "\n}\n")


if __name__ == "__main__":
    main(sys.argv[1])
