"""The built program, made fit for other machines."""

import os
import re
import struct
import subprocess

# PEP 600's tags promise the versions of glibc's symbols, and by that of a distribution's libstdc++: the newest
# GLIBCXX_3.4.N of each glibc 2.M, from auditwheel's policy.
LIBSTDCXX = [(25, 28), (28, 31), (29, 34), (30, 35), (33, 39)]

PT_LOAD, PT_DYNAMIC = 1, 2
DT_NULL, DT_STRTAB, DT_RPATH = 0, 5, 15


def stripped(source, target):
    """Copies a program or library without what only a debugger reads."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    subprocess.run(["strip", "--strip-unneeded", "-o", target, source], check=True)
    os.chmod(target, 0o755)


def without_build_folder(path):
    """Leaves of the program's DT_RPATH what is relative to the program (build.rs), so that no folder of the machine
    that built it is searched."""
    with open(path, "r+b") as file:
        data = bytearray(file.read())
        place, start = rpath(data)
        old = bytes(data[start : data.index(0, start)])
        kept = b":".join(entry for entry in old.split(b":") if entry.startswith(b"$ORIGIN/"))
        if not kept or not old.endswith(kept):
            raise SystemExit(f"{path}: its DT_RPATH is {old.decode()}; build it with `make build`")
        cut = len(old) - len(kept)
        # The entry now points into the string, whose end other strings may share.
        data[start : start + cut] = bytes(cut)
        data[place : place + 8] = struct.pack("<Q", struct.unpack_from("<Q", data, place)[0] + cut)
        file.seek(0)
        file.write(data)


def rpath(data):
    """Where the file keeps DT_RPATH's value, and where the string begins."""
    offset, size, count = struct.unpack_from("<Q", data, 32)[0], *struct.unpack_from("<HH", data, 54)
    headers = [struct.unpack_from("<IIQQQQ", data, offset + i * size) for i in range(count)]
    (dynamic,) = (header[2] for header in headers if header[0] == PT_DYNAMIC)
    values = {}
    while True:
        tag, value = struct.unpack_from("<qQ", data, dynamic)
        if tag == DT_NULL:
            break
        values[tag] = (dynamic + 8, value)
        dynamic += 16
    if DT_RPATH not in values:
        raise SystemExit("the program has no DT_RPATH; build it with `make build`")
    strings = values[DT_STRTAB][1]
    (strings,) = (
        strings - address + start
        for kind, _, start, address, _, length in headers
        if kind == PT_LOAD and address <= strings < address + length
    )
    place, value = values[DT_RPATH]
    return place, strings + value


def glibc(*paths):
    """The minor version of the glibc 2.M, with the libstdc++ that comes with it, that the files need."""
    table = "".join(
        subprocess.run(["objdump", "-T", path], check=True, capture_output=True, text=True).stdout for path in paths
    )
    own, cxx = (
        max((int(version) for version in re.findall(pattern, table)), default=0)
        for pattern in (r"\bGLIBC_2\.(\d+)", r"\bGLIBCXX_3\.4\.(\d+)")
    )
    # Newer than the table: that of this machine.
    here = int(os.confstr("CS_GNU_LIBC_VERSION").split(".")[1])
    promised = next((minor for version, minor in LIBSTDCXX if cxx <= version), here)
    return max(own, promised)
