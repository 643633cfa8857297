#!/usr/bin/env python3
"""Builds the documentation's site with mdbook, from the pages as they are, and checks its links: `make docs`.

The pages are those that docs/README.md lists, and the README. They and the files that they link to are copied into
build/docs/src as they lie in the repository, so that every relative link holds there too; the table of contents is
docs/README.md's. The site is build/docs/site.
"""

import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "build" / "docs"
SOURCE, SITE = BOOK / "src", BOOK / "site"
INDEX = Path("docs/README.md")


def local(page, target):
    """The repository's file that a link of `page` leads to, if it is one."""
    parts = urlsplit(target)
    if parts.scheme or parts.netloc or not parts.path:
        return None
    return ((ROOT / page).parent / unquote(parts.path)).resolve().relative_to(ROOT)


def contents():
    """mdbook's table of contents, and the pages in it."""
    lines, pages = ["# tl", "", "[tl](README.md)", f"[Documentation]({INDEX})", ""], [Path("README.md"), INDEX]
    for line in (ROOT / INDEX).read_text().splitlines():
        if heading := re.match(r"## (.*)", line):
            lines += ["", f"# {heading[1]}", ""]
        elif entry := re.match(r"- \[(.*?)\]\((.*?)\)", line):
            page = local(INDEX, entry[2])
            lines.append(f"- [{entry[1]}]({page})")
            pages.append(page)
    return "\n".join(lines) + "\n", pages


def stage():
    """Copies the pages and what they link to."""
    shutil.rmtree(BOOK, ignore_errors=True)
    table, pages = contents()
    wanted = set(pages)
    for page in pages:
        for target in re.findall(r"\]\(([^)\s]+)\)", (ROOT / page).read_text()):
            wanted.add(local(page, target))
    for path in wanted - {None}:
        place = SOURCE / path
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, place)
    (SOURCE / "SUMMARY.md").write_text(table)
    shutil.copyfile(ROOT / "docs" / "book.toml", BOOK / "book.toml")
    return pages


class Page(HTMLParser):
    """What a page links to, and what can be linked to in it."""

    def __init__(self, path):
        super().__init__()
        self.targets, self.names = [], set()
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        for key, value in attributes:
            if key in ("href", "src") and value:
                self.targets.append(value)
            elif key == "id":
                self.names.add(value)


def broken():
    """The links of the site that lead nowhere, and how many there are in all."""
    paths = [path for path in SITE.rglob("*.html") if path.name not in ("404.html", "toc.html")]
    pages = {path: Page(path) for path in paths}
    wrong, links = [], 0
    for path, page in pages.items():
        for target in page.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            links += 1
            there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not there.is_file():
                wrong.append(f"{path.relative_to(SITE)}: {target} is not there")
            elif parts.fragment and there in pages and unquote(parts.fragment) not in pages[there].names:
                wrong.append(f"{path.relative_to(SITE)}: {target} names no part of that page")
    return wrong, links


def main():
    mdbook = shutil.which("mdbook")
    if mdbook is None:
        sys.exit("mdbook is missing: cargo install mdbook --locked, or a program of https://github.com/rust-lang/mdBook/releases")
    pages = stage()
    subprocess.run([mdbook, "build", BOOK], check=True)
    wrong, links = broken()
    if wrong:
        sys.exit("\n".join(wrong))
    print(f"{SITE.relative_to(ROOT)}/index.html: {len(pages)} pages, {links} links lead somewhere")


main()
