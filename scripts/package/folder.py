"""Packs the built program with the libraries of libtorch that it uses: dist/tl-VERSION-MACHINE-linux.tar.gz.

Unpacked anywhere, it runs on any Linux whose glibc and libstdc++ have the symbols that it needs."""

import glob
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile

import build
import elf

# What every Linux with glibc and a package manager has. The builder's libstdc++ would run on a glibc as new as the
# builder's only, and the program itself on an older one.
SYSTEM = re.compile(r"^(linux-vdso|ld-linux.*|libc|libm|libdl|libpthread|librt|libutil|libstdc\+\+|libgcc_s)[-.]")
# A bare Debian unpacks gzip alone.
COMPRESSORS = {"gz": ["gzip", "-n", "-6"], "xz": ["xz", "-T0", "-6"], "zst": ["zstd", "-q", "-T0", "-19"]}


def main(ending):
    name = f"tl-{build.package()['version']}-{platform.machine()}-linux"
    with tempfile.TemporaryDirectory() as stage:
        folder = os.path.join(stage, name)
        program = os.path.join(folder, "bin/tl")
        build.put_program(program)
        libraries = needed(build.BUILT)
        put_libraries(libraries, os.path.join(folder, "lib"))
        build.put_share(folder)
        put_licences(os.path.join(folder, "licences"), libraries)
        for shipped in ("recipes", "data"):
            shutil.copytree(os.path.join(build.ROOT, shipped), os.path.join(folder, shipped))
        put_readme(folder, elf.glibc(program, *glob.glob(os.path.join(folder, "lib", "*"))))
        os.makedirs(os.path.join(build.ROOT, "dist"), exist_ok=True)
        archive = os.path.join(build.ROOT, "dist", f"{name}.tar.{ending}")
        size = sum(os.path.getsize(os.path.join(folder, path)) for path in build.files_below(folder))
        pack(stage, name, archive, COMPRESSORS[ending])
    print(f"{os.path.relpath(archive)}: {build.megabytes(archive)}, {size / 1e6:.0f} MB unpacked")


def needed(program):
    """The libraries, of libtorch and its own, that the program is loaded with."""
    environment = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    said = subprocess.run(["ldd", program], check=True, capture_output=True, text=True, env=environment).stdout
    pairs = re.findall(r"^\s*(\S+) => (.*?)(?: \(0x|$)", said, re.MULTILINE)
    missing = [name for name, path in pairs if path == "not found"]
    if missing:
        raise SystemExit(f"{program} needs {', '.join(missing)}, which the loader does not find: `make setup`")
    return sorted(os.path.normpath(path) for name, path in pairs if not SYSTEM.match(name))


def put_libraries(libraries, folder):
    os.makedirs(folder)
    for library in libraries:
        target = os.path.join(folder, os.path.basename(library))
        # A fifth of PyTorch's own is for debuggers. NVIDIA's may be passed on as they are only.
        if os.path.basename(library) in ("libtorch_cpu.so", "libc10.so"):
            elf.stripped(library, target)
        else:
            shutil.copyfile(library, target)
            os.chmod(target, 0o755)


def put_licences(folder, libraries):
    build.put_licences(folder)
    (torch,) = (os.path.dirname(os.path.dirname(path)) for path in libraries if path.endswith("/libtorch_cpu.so"))
    packages = os.path.dirname(torch)
    found = sorted(
        path
        for name in ("torch-*", "nvidia_cuda_runtime*", "nvidia_cuda_cupti*")
        for path in glob.glob(os.path.join(packages, f"{name}.dist-info", "licenses", "*"))
    )
    if not any("torch-" in path for path in found):
        raise SystemExit(f"there is no licence of PyTorch beside {torch}: build with a libtorch that pip installed")
    for path in found:
        package = os.path.basename(os.path.dirname(os.path.dirname(path))).replace(".dist-info", "")
        shutil.copyfile(path, os.path.join(folder, f"{package}-{os.path.basename(path)}"))
    # libgomp: the GPL, with the exception that lets any program use it. The same text for all of GCC's libraries.
    gcc = "/usr/share/doc/libstdc++6/copyright"
    if os.path.exists(gcc):
        shutil.copyfile(gcc, os.path.join(folder, "libgomp.txt"))


def put_readme(folder, glibc):
    with open(os.path.join(folder, "README.txt"), "w") as file:
        file.write(
            f"""tl {build.package()['version']} with libtorch, for the CPU. It needs a Linux with glibc 2.{glibc} or newer and its
libstdc++, as every system with apt or dnf has them, and nothing else.

    bin/tl demo
    bin/tl finetune recipes/quickstart.yaml     # in this folder
    bin/tl --help

The folder may be moved; links to bin/tl work. `man -M share/man tl` shows the manual; share/ also has the completions of
bash, zsh and fish. Licences: licences/.
"""
        )


def pack(stage, name, archive, compressor):
    """Equal inputs give equal bytes."""

    def plain(info):
        info.mtime, info.uid, info.gid, info.uname, info.gname = 0, 0, 0, "", ""
        info.mode = 0o755 if info.isdir() or info.mode & 0o100 else 0o644
        return info

    with open(archive + ".new", "wb") as file:
        process = subprocess.Popen(compressor, stdin=subprocess.PIPE, stdout=file)
        with tarfile.open(fileobj=process.stdin, mode="w|", format=tarfile.GNU_FORMAT) as tar:
            tar.add(os.path.join(stage, name), name, filter=plain)
        process.stdin.close()
        if process.wait():
            raise SystemExit(f"{compressor[0]} failed")
    os.replace(archive + ".new", archive)


if __name__ == "__main__":
    main(sys.argv[1])
