"""The licences of the Rust crates that are linked into the program."""

import json
import os
import re
import subprocess

NAMES = re.compile(r"^(licen[cs]e|copying|copyright|notice|unlicense|readme\.ijg)", re.IGNORECASE)


def third_party(root):
    """A list of crates with their licences, then each text once, with the crates that it is of."""
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", host()]
    metadata = json.loads(subprocess.run(command, cwd=root, check=True, capture_output=True).stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    crates = sorted((packages[crate] for crate in linked(metadata)), key=lambda crate: (crate["name"], crate["version"]))
    lines, texts = [], {}
    for crate in crates:
        name = f"{crate['name']} {crate['version']}"
        lines.append(f"{name:<40} {crate['license'] or 'see its text below'}")
        for text in sorted(set(licence_texts(os.path.dirname(crate["manifest_path"])))):
            texts.setdefault(text, []).append(name)
    head = (
        "tl is linked with Rust's standard library (MIT OR Apache-2.0, https://www.rust-lang.org) and these crates of\n"
        "https://crates.io. This software is based in part on the work of the Independent JPEG Group. A crate that\n"
        "brings no text of its own is under the Apache licence: LICENSE-APACHE beside this file.\n\n"
    )
    body = "".join(f"\n{'=' * 80}\n{', '.join(names)}\n{'=' * 80}\n\n{text}\n" for text, names in texts.items())
    return head + "\n".join(lines) + "\n" + body


def host():
    said = subprocess.run(["rustc", "-vV"], check=True, capture_output=True, text=True).stdout
    return re.search("host: (.*)", said).group(1)


def linked(metadata):
    """The ids of what the program is linked with: not what only tests or build scripts use."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    root = metadata["resolve"]["root"]
    seen, waiting = set(), [root]
    while waiting:
        for dependency in nodes[waiting.pop()]["deps"]:
            ordinary = any(kind["kind"] is None for kind in dependency["dep_kinds"])
            if ordinary and dependency["pkg"] not in seen:
                seen.add(dependency["pkg"])
                waiting.append(dependency["pkg"])
    return seen


def licence_texts(folder):
    """Those of the crate and of C code that it brings along."""
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in ("tests", "benches", "examples", "target", ".git")]
        for name in files:
            path = os.path.join(place, name)
            if NAMES.match(name) and not name.endswith((".rs", ".sh")) and not os.path.islink(path):
                with open(path, encoding="utf-8", errors="replace") as file:
                    yield file.read().strip()
