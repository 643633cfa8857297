#!/usr/bin/env python3
"""The pictures of docs/pictures, from real runs and from the numbers of docs/performance.md.

    python3 scripts/pictures.py [badges] [speed] [terminal] [report]

`terminal` and `report` run recipes/quickstart.yaml with the `tl` of the environment variable TL (else
target/release/tl) in a temporary folder; the report's page is taken by Chromium, and made smaller by Pillow.
Without names, all of them are made. Nothing is written where a step fails.
"""

import html
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs" / "pictures"
TL = ROOT / os.environ.get("TL", "target/release/tl")

MONOSPACE = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', monospace"
SANS = "system-ui, 'Segoe UI', Helvetica, Arial, 'DejaVu Sans', sans-serif"

# --- Badges: no server is asked for them.

# A character's width at 11 pixels, as far as one number tells; `textLength` makes it fit.
BADGE_CHARACTER = 6.1


def badge(name, left, right):
    widths = [round(len(text) * BADGE_CHARACTER + 12) for text in (left, right)]
    whole = sum(widths)
    texts = "".join(
        f'<text x="{x}" y="14" text-anchor="middle" textLength="{width - 12}" fill="{fill}">{html.escape(text)}</text>'
        for text, x, width, fill in (
            (left, widths[0] / 2, widths[0], "#ffffff"),
            (right, widths[0] + widths[1] / 2, widths[1], "#ffffff"),
        )
    )
    label = html.escape(f"{left}: {right}")
    return f"badge-{name}.svg", (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{whole}" height="20" role="img" aria-label="{label}">'
        f"<title>{label}</title>"
        f'<clipPath id="r"><rect width="{whole}" height="20" rx="3"/></clipPath>'
        f'<g clip-path="url(#r)"><rect width="{widths[0]}" height="20" fill="#4b5563"/>'
        f'<rect x="{widths[0]}" width="{widths[1]}" height="20" fill="#1464a5"/></g>'
        f'<g font-family="{SANS}" font-size="11">{texts}</g></svg>\n'
    )


def badges():
    package = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]
    for name, text in (
        badge("version", "version", package["version"]),
        badge("licence", "licence", package["license"].replace(" OR ", " or ")),
        badge("rust", "Rust", package["rust-version"] + " or newer"),
        badge("system", "system", "Linux"),
        badge("torchvision", "networks of", "torchvision 0.26"),
    ):
        write(name, text)


# --- The speed: bars of docs/performance.md.

CASES = {
    "extract-resnet18": "features of 512 photographs, ResNet-18",
    "extract-resnet50": "features of 512 photographs, ResNet-50",
    "extract-mobilenet_v2": "features of 512 photographs, MobileNet v2",
    "extract-vit_b_16": "features of 256 photographs, ViT-B/16",
    "extract-12mp": "features of 128 photographs of 12 megapixels, ResNet-18",
    "cold-start": "one image classified, from the start of the program, ResNet-18",
    "partial-epoch": "an epoch of fine-tuning the last stage of ResNet-18, 256 photographs",
    "full-epoch": "an epoch of fine-tuning all of ResNet-18, 256 photographs",
}
BARS = (("tl", "tl"), ("best", "torchvision's parts, best simple settings"), ("loop", "torchvision's parts, plain loop"))


def speed():
    text = (ROOT / "docs" / "performance.md").read_text()
    text = text.split("<!-- results: begin -->")[1].split("<!-- results: end -->")[0]
    head = text.strip().splitlines()[0]
    rows = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] in CASES:
            rows[cells[0]] = {bar: float(cells[at].split()[0]) for bar, at in (("tl", 2), ("best", 5), ("loop", 3))}
    missing = CASES.keys() - rows.keys()
    if missing:
        sys.exit(f"docs/performance.md has no row of {sorted(missing)}")
    torch, torchvision, machine, cores = re.search(
        r"torch ([\d.]+)\S*, torchvision ([\d.]+)\S*, ([^,]+), (\d+) of", head
    ).groups()

    width, left, longest, thick = 760, 16, 620, 11
    parts, y = [], 58
    for at, (bar, name) in enumerate(BARS):
        x = left + (0, 60, 370)[at]
        parts.append(f'<rect class="{bar}" x="{x}" y="34" width="11" height="11"/>')
        parts.append(f'<text x="{x + 17}" y="44">{html.escape(name)}</text>')
    for case, name in CASES.items():
        y += 21
        parts.append(f'<text class="case" x="{left}" y="{y}">{html.escape(name)}</text>')
        y += 6
        slowest = max(rows[case].values())
        for bar, _ in BARS:
            seconds = rows[case][bar]
            length = max(2, round(longest * seconds / slowest))
            parts.append(f'<rect class="{bar}" x="{left}" y="{y}" width="{length}" height="{thick}"/>')
            parts.append(f'<text class="s" x="{left + length + 6}" y="{y + 10}">{seconds:.2f} s</text>')
            y += thick + 2
        y += 3
    y += 22
    foot = f"Each case on its own scale. {cores} cores of an {machine}, torch {torch}, torchvision {torchvision}; docs/performance.md"
    parts.append(f'<text class="s" x="{left}" y="{y}">{html.escape(foot)}</text>')
    height = y + 14
    write(
        "speed.svg",
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">'
        "<title>Seconds of tl beside torchvision's parts</title>"
        f"<style>text{{font:12.5px {SANS};fill:#1f2933}}.case{{font-weight:600}}.s{{font-size:11.5px;fill:#52606d}}"
        ".h{font-size:15px;font-weight:700}.back{fill:#ffffff;stroke:#d5dae0}"
        ".tl{fill:#1464a5}.best{fill:#d18a3c}.loop{fill:#a3adb8}"
        "@media(prefers-color-scheme:dark){text{fill:#e4e9ee}.s{fill:#a9b4bf}.back{fill:#15191e;stroke:#343c45}"
        ".tl{fill:#4aa3e8}.best{fill:#d99a55}.loop{fill:#6b7784}}</style>"
        f'<rect class="back" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="6"/>'
        f'<text class="h" x="{left}" y="24">Seconds: shorter is better</text>' + "".join(parts) + "</svg>\n",
    )


# --- The terminal and the report: a real run.

COLUMNS = 111
COMMANDS = ("tl finetune recipes/quickstart.yaml", "tl predict --model runs/quickstart data/samples")


def in_a_copy(folder):
    """A folder in which the README's commands run as they are typed."""
    for name in ("recipes", "data"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "bin").mkdir()
    (folder / "bin" / "tl").symlink_to(TL)
    return {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}


def run(command, folder, environment):
    done = subprocess.run(
        command.split(), cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode:
        sys.exit(f"{command} failed:\n{done.stdout}")
    return done.stdout


def wrapped(line):
    """`line` as a terminal of COLUMNS breaks it."""
    return [line[at : at + COLUMNS] for at in range(0, max(len(line), 1), COLUMNS)]


def terminal(folder, environment):
    size, step, high, left, top = 12.5, 7.53, 17, 16, 46
    lines = []
    for command in COMMANDS:
        lines.append(("typed", "$ " + command))
        for line in run(command, folder, environment).splitlines():
            strong = "strong" if line.startswith("val accuracy ") else "told"
            lines += [(strong, part) for part in wrapped(line)]
        lines.append(("told", ""))
    lines.append(("typed", "$ "))
    width = round(left * 2 + COLUMNS * step)
    height = top + high * len(lines) + 6
    texts = []
    for at, (kind, line) in enumerate(lines):
        line = line.rstrip()
        if line:
            texts.append(
                f'<text xml:space="preserve" class="{kind}" x="{left}" y="{top + high * at + 10}" textLength="{round(len(line) * step, 1)}">'
                f"{html.escape(line, quote=False)}</text>"
            )
    dots = "".join(f'<circle cx="{left + 5 + 18 * at}" cy="18" r="5.5" fill="#4a5560"/>' for at in range(3))
    write(
        "terminal.svg",
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">'
        "<title>tl finetune and tl predict on the terminal</title>"
        f"<style>text{{font:{size}px {MONOSPACE};white-space:pre}}.told{{fill:#cdd5dd}}.typed{{fill:#7fd49b}}"
        ".strong{fill:#ffffff;font-weight:700}</style>"
        f'<rect width="{width}" height="{height}" rx="7" fill="#171c22"/>{dots}' + "".join(texts) + "</svg>\n",
    )


WIDTH, LONGEST = 980, 2000


def report(folder, environment):
    browser = next(filter(shutil.which, ("chromium", "chromium-browser", "google-chrome")), None)
    if browser is None:
        sys.exit("the picture of the report needs Chromium")
    from PIL import Image, ImageChops

    page = folder / "runs" / "quickstart" / "report.html"
    if not page.exists():
        run(COMMANDS[0], folder, environment)
    # As far as the classes: what follows them is cut off.
    whole = page.read_text()
    upper = folder / "report.html"
    upper.write_text(whole[: whole.index('<h2 id="confusions"')])
    shot = folder / "report.png"
    done = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'browser'}", "--hide-scrollbars"]
        + [f"--window-size={WIDTH},{LONGEST}", f"--screenshot={shot}", upper.as_uri()],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=120,
        text=True,
    )
    if not shot.exists():
        sys.exit(f"{browser} took no picture: {done.stderr}")
    image = Image.open(shot).convert("RGB")
    empty = Image.new("RGB", image.size, image.getpixel((0, 0)))
    bottom = ImageChops.difference(image, empty).getbbox()[3]
    image = image.crop((0, 0, WIDTH, min(bottom + 20, LONGEST)))
    small = image.quantize(160, dither=Image.Dither.NONE)
    path = PICTURES / "report.png"
    small.save(path, optimize=True)
    print(f"{path.relative_to(ROOT)}  {path.stat().st_size / 1000:.0f} kB")


def write(name, text):
    path = PICTURES / name
    path.write_text(text)
    print(f"{path.relative_to(ROOT)}  {len(text.encode()) / 1000:.0f} kB")


def main():
    wanted = sys.argv[1:] or ["badges", "speed", "terminal", "report"]
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        environment = in_a_copy(folder)
        for name in wanted:
            match name:
                case "badges":
                    badges()
                case "speed":
                    speed()
                case "terminal":
                    terminal(folder, environment)
                case "report":
                    report(folder, environment)
                case _:
                    sys.exit(f"no picture is called {name}: badges, speed, terminal, report")


main()
