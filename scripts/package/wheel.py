"""Packs the built program into a wheel: dist/transferkit-VERSION-py3-none-PLATFORM.whl.

Not with maturin, which builds by itself and has no place for the launcher. Equal inputs give equal bytes."""

import base64
import hashlib
import os
import platform
import sys
import tempfile
import zipfile

import build
import elf

TORCH = "torch==2.11.0"


def main(launcher):
    package = build.package()
    stem = f"{package['name']}-{package['version']}"
    with tempfile.TemporaryDirectory() as stage:
        program = os.path.join(stage, package["name"], "tl")
        build.put_program(program)
        elf.stripped(launcher, os.path.join(stage, f"{stem}.data/scripts/tl"))
        build.put_share(os.path.join(stage, f"{stem}.data/data"))
        tag = f"py3-none-manylinux_2_{elf.glibc(program, launcher)}_{platform.machine()}"
        put_metadata(os.path.join(stage, f"{stem}.dist-info"), package, tag)
        os.makedirs(os.path.join(build.ROOT, "dist"), exist_ok=True)
        wheel = os.path.join(build.ROOT, "dist", f"{stem}-{tag}.whl")
        pack(stage, wheel, f"{stem}.dist-info/RECORD")
    print(f"{os.path.relpath(wheel)}: {build.megabytes(wheel)}")


def put_metadata(folder, package, tag):
    build.put_licences(os.path.join(folder, "licenses"))
    with open(os.path.join(build.ROOT, package["readme"])) as file:
        readme = file.read()
    lines = [
        "Metadata-Version: 2.4",
        f"Name: {package['name']}",
        f"Version: {package['version']}",
        f"Summary: {package['description']}",
        f"Keywords: {','.join(package['keywords'])}",
        f"License-Expression: {package['license']}",
        *(f"License-File: {name}" for name in build.files_below(os.path.join(folder, "licenses"))),
        "Classifier: Environment :: Console",
        "Classifier: Operating System :: POSIX :: Linux",
        "Classifier: Topic :: Scientific/Engineering :: Image Recognition",
        # PyTorch's own.
        "Requires-Python: >=3.10",
        f"Requires-Dist: {TORCH}",
        "Description-Content-Type: text/markdown",
    ]
    write(os.path.join(folder, "METADATA"), "\n".join(lines) + "\n\n" + readme)
    write(
        os.path.join(folder, "WHEEL"),
        f"Wheel-Version: 1.0\nGenerator: tl scripts/package/wheel.py\nRoot-Is-Purelib: false\nTag: {tag}\n",
    )


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


def pack(stage, wheel, record):
    """Zips the stage, and the list of its files with their hashes."""
    rows = []
    with zipfile.ZipFile(wheel + ".new", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in build.files_below(stage):
            path = os.path.join(stage, name)
            with open(path, "rb") as file:
                data = file.read()
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            rows.append(f"{name},sha256={digest},{len(data)}\n")
            archive.writestr(entry(name, os.access(path, os.X_OK)), data)
        archive.writestr(entry(record, False), "".join(rows) + f"{record},,\n")
    os.replace(wheel + ".new", wheel)


def entry(name, executable):
    info = zipfile.ZipInfo(name)  # of 1980, the oldest that a zip can say
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = (0o100755 if executable else 0o100644) << 16
    return info


if __name__ == "__main__":
    main(sys.argv[1])
