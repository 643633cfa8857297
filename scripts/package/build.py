"""What the wheel and the folder have in common: the program and the files beside it."""

import json
import os
import subprocess

import elf
import licences

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# As `make` has it; relative to the root.
BUILT = os.path.join(ROOT, os.environ.get("TL", "target/release/tl"))
# Where the files of a prefix are looked for: man, and the completions of each shell.
SHARE = {
    "man": "share/man/man1",
    "bash": "share/bash-completion/completions",
    "zsh": "share/zsh/site-functions",
    "fish": "share/fish/vendor_completions.d",
}


def package():
    """Cargo.toml's own: version, description, repository."""
    command = ["cargo", "metadata", "--format-version", "1", "--no-deps", "--locked"]
    metadata = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)
    return metadata["packages"][0]


def put_program(target):
    """The program, stripped, and bound to no folder of this machine."""
    elf.stripped(BUILT, target)
    elf.without_build_folder(target)


def put_share(prefix):
    """Man pages and completions, below a prefix."""
    for what, folder in SHARE.items():
        command = [BUILT, "completions", what, "--quiet", "--out", os.path.join(prefix, folder)]
        subprocess.run(command, check=True)


def put_licences(folder):
    """The project's own, and those of what is linked into it."""
    os.makedirs(folder, exist_ok=True)
    for name in ("LICENSE-MIT", "LICENSE-APACHE"):
        with open(os.path.join(ROOT, name)) as source, open(os.path.join(folder, name), "w") as target:
            target.write(source.read())
    with open(os.path.join(folder, "THIRD-PARTY.txt"), "w") as target:
        target.write(licences.third_party(ROOT))


def files_below(folder):
    """Paths relative to `folder`, sorted."""
    found = (os.path.join(place, name) for place, _, names in os.walk(folder) for name in names)
    return sorted(os.path.relpath(path, folder) for path in found)


def megabytes(path):
    return f"{os.path.getsize(path) / 1e6:.1f} MB"
