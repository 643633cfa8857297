#!/usr/bin/env python3
"""Measures `tl` against torchvision (peer.py), in turn: `make bench`. See docs/performance.md.

    bench.py [CASE...] [--quick] [--threads N] [--reps N] [--images N] [--fresh] [--list]

A repetition of a case runs `tl` and each form of the peer one after the other, so that whatever else the machine does
meets all of them. Each result is a line of build/bench/results.jsonl, written as soon as it is there. A second call
goes on: repetitions that are complete, of the same program, versions, machine, cores and images, are not run again.
With --fresh everything is. Exit code 1 if a case failed or the outputs do not agree.
"""

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import table
from cases import CASES, PEER, Case, Setting
from images import make_all
from process import Failed, run

ROOT = Path(__file__).resolve().parent.parent
IMAGES, REPS = 512, 5
QUICK_IMAGES, QUICK_REPS = 96, 2


def main() -> int:
    args = arguments()
    if args.list:
        print("\n".join(CASES))
        return 0
    unknown = [name for name in args.cases if name not in CASES]
    if unknown:
        print(f"bench: there is no case {', '.join(unknown)}; the cases are {', '.join(CASES)}", file=sys.stderr)
        return 2
    allowed = sorted(os.sched_getaffinity(0))
    if args.threads and args.threads > len(allowed):
        print(f"bench: --threads {args.threads}, and {len(allowed)} cores are at hand", file=sys.stderr)
        return 2
    args.folder.mkdir(parents=True, exist_ok=True)
    (args.folder / "scratch").mkdir(exist_ok=True)
    (args.folder / "weights").mkdir(exist_ok=True)
    results = args.folder / "results.jsonl"
    if args.fresh and results.exists():
        results.rename(args.folder / f"results-{time.strftime('%Y%m%d-%H%M%S')}.jsonl")
    setting = Setting(
        tl=str(Path(args.tl).resolve()),
        python=sys.executable,
        folder=args.folder.resolve(),
        cores=allowed[: args.threads or len(allowed)],
        images=args.images,
        tl_options=subprocess.run([args.tl, "extract", "--help"], capture_output=True, text=True, check=True).stdout,
    )
    machine = describe(setting)
    print(table.heading(machine), file=sys.stderr)
    failed = False
    for name in args.cases or CASES:
        failed |= not measure(name, CASES[name], setting, machine, args.reps, results)
    print(table.markdown(table.read(results), machine))
    return int(failed)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measures tl against torchvision.")
    parser.add_argument("cases", nargs="*", metavar="CASE", help="all of them, if none is named")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_IMAGES} images and {QUICK_REPS} repetitions")
    parser.add_argument("--threads", type=int, metavar="N", help="use N cores (all)")
    parser.add_argument("--reps", type=int, metavar="N", help=f"repetitions ({REPS}; some cases have more or fewer)")
    parser.add_argument("--images", type=int, metavar="N", help=f"photographs ({IMAGES}; some cases use a share)")
    parser.add_argument("--fresh", action="store_true", help="start over; earlier results are kept under another name")
    parser.add_argument("--list", action="store_true", help="name the cases and stop")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "bench", help="build/bench")
    parser.add_argument("--tl", default=os.environ.get("TL", str(ROOT / "target" / "release" / "tl")))
    args = parser.parse_args()
    args.images = args.images or (QUICK_IMAGES if args.quick else IMAGES)
    args.reps = args.reps or (QUICK_REPS if args.quick else REPS)
    if args.images < 32 or args.reps < 1:
        parser.error("at least 32 images and one repetition are needed")
    return args


def describe(setting: Setting) -> dict:
    """What a figure belongs to. Figures are comparable, and put together, if all of this is equal."""
    # Asked in another process: what this one has in memory when it starts a program counts as that program's peak.
    ask = "import json, torch, torchvision; print(json.dumps([torch.__version__, torchvision.__version__]))"
    torch, torchvision = json.loads(subprocess.check_output([setting.python, "-c", ask]))

    def git(*words) -> str:
        try:
            return subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return ""

    commit = git("rev-parse", "--short=12", "HEAD") or "unknown"
    if git("status", "--porcelain", "--", "src", "Cargo.lock"):
        commit += " with changes"
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    with open(setting.tl, "rb") as program:
        digest = hashlib.file_digest(program, "sha256").hexdigest()[:12]
    return {
        "tl": commit,
        "program": digest,
        "torch": torch,
        "torchvision": torchvision,
        "python": platform.python_version(),
        "processor": models[0].split(":", 1)[1].strip() if models else platform.machine(),
        "cores_of_the_machine": os.cpu_count(),
        "threads": setting.threads,
        "images": setting.images,
    }


def measure(name: str, case: Case, setting: Setting, machine: dict, reps: int, results: Path) -> bool:
    """All repetitions of one case; whether it was sound."""
    reason = case.missing(setting)
    if reason:
        print(f"{name}: not available, {reason}", file=sys.stderr)
        export(results, machine, {"case": name, "unavailable": reason})
        return True
    everyone = ["tl", *case.peers]
    earlier = [row for row in table.read(results) if row["machine"] == machine and row["case"] == name]
    try:
        prepare(case, setting)
        for rep in range(max(1, round(reps * case.repeat))):
            done = {row["who"] for row in earlier if row.get("rep") == rep and "seconds" in row}
            if done >= set(everyone):
                continue
            # Who is first changes from one repetition to the next.
            first = rep % len(everyone)
            order = everyone[first:] + everyone[:first]
            rows = {who: once(case, who, setting) for who in order}
            for who in everyone:
                row = {"case": name, "rep": rep, "who": who, "time": time.strftime("%FT%TZ", time.gmtime()), **rows[who]}
                if who != "tl":
                    row["difference"] = case.agree(who, setting)
                export(results, machine, row)
                print(f"{name} {rep + 1}: {who} {table.seconds_of(row):.2f} s", file=sys.stderr)
    except Failed as failure:
        print(f"{name}: FAILED: {failure}", file=sys.stderr)
        export(results, machine, {"case": name, "failed": str(failure)})
        return False
    return True


def once(case: Case, who: str, setting: Setting) -> dict:
    log = setting.scratch("stderr.txt")
    measured = run(case.command(who, setting), setting.cores, case.memory, log)
    row = {"seconds": round(measured.seconds, 4), "rss_mib": round(measured.rss, 1)}
    if measured.pss is not None:
        row["memory_mib"] = round(measured.pss, 1)
    row.update(case.figures(who, setting, measured.stdout))
    if case.whole_program:
        row["work"] = row["seconds"]
    return row


def prepare(case: Case, setting: Setting) -> None:
    """Images, weights and caches: what is read once is in memory before the first repetition."""
    needed = case.images(setting)
    make_all(setting.folder / "images", needed)
    weights = setting.weights(case.model)
    if not weights.is_file():
        make_all(setting.folder / "images", {"photographs": setting.images})
        photographs = setting.set_of("photographs", setting.images)
        command = [setting.python, PEER, "weights", "--model", case.model, "--out", f"{weights}.part"]
        run([*command, "--images", photographs], setting.cores, log=setting.scratch("stderr.txt"))
        os.replace(f"{weights}.part", weights)
    for path in case.folder(setting).rglob("*.jpg"):
        path.read_bytes()
    run([setting.tl, "--version"], setting.cores)
    run([setting.python, "-c", "import torchvision"], setting.cores)


def export(results: Path, machine: dict, row: dict) -> None:
    with results.open("a") as file:
        file.write(json.dumps({**row, "machine": machine}) + "\n")
        file.flush()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("bench: stopped; what was measured is kept, and `make bench` goes on from there", file=sys.stderr)
        sys.exit(130)
