"""What the experiments share: runs that are made once, several at a time, and keep one line of JSON each."""

import argparse
import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
LOCK = threading.Lock()
RUNNING = set()
STOPPED = threading.Event()


class Results:
    """A file of one line of JSON for each run. A run whose line is there need not be made again."""

    def __init__(self, path):
        self.path = path

    def rows(self):
        if not self.path.is_file():
            return []
        rows = []
        for line in self.path.read_text().splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:  # cut off when the machine went down: that run has no line
                pass
        return rows

    def add(self, row):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with LOCK, self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")


class Failure(Exception):
    """A run that came to nothing, with what it said."""


def make(jobs, at_once, forecast, attempt, label):
    """Makes runs, `at_once` of them at a time; returns the exit code.

    forecast(job) is in seconds and need only be right in proportion; attempt(job) returns what to say of it.
    """
    started, total, spent, failed = time.time(), sum(forecast(job) for job in jobs), 0.0, 0

    def tried(job):
        try:
            return attempt(job), None
        except (OSError, ValueError, KeyError, Failure) as error:
            return None, f"failed: {error}"

    # A shell's background job ignores ctrl-c, which what it starts does not.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    pool = ThreadPoolExecutor(at_once)
    try:
        for number, (job, (told, error)) in enumerate(zip(jobs, pool.map(tried, jobs)), 1):
            spent += forecast(job)
            failed += error is not None
            left = (time.time() - started) * (total / spent - 1)
            print(f"{number}/{len(jobs)} {label(job)}: {error or told}; {left / 60:.0f} min left", file=sys.stderr)
    except KeyboardInterrupt:
        STOPPED.set()
        pool.shutdown(wait=False, cancel_futures=True)
        for process in list(RUNNING):
            process.terminate()
        print("stopped: the same command goes on where this ended", file=sys.stderr)
        return 130
    finally:
        pool.shutdown()
    return 1 if failed else 0


def timed(command, log, **options):
    """Runs a command, its messages in the file `log`; returns its wall-clock seconds and those of its CPU time."""
    started = time.time()
    if STOPPED.is_set():
        raise Failure("stopped")
    with log.open("w") as messages:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=messages, text=True, **options)
    RUNNING.add(process)
    output = process.stdout.read()
    # wait4 tells what this one child used, whatever runs beside it.
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    RUNNING.discard(process)
    if process.returncode:
        said = log.read_text().strip().splitlines()
        raise Failure(f"{said[-1] if said else command[0]} (exit code {process.returncode}; {log})")
    return output, {"seconds": round(time.time() - started, 2), "cpu_seconds": round(used.ru_utime + used.ru_stime, 2)}


def finetune(tl, recipe, out, options):
    """One `tl finetune` into the folder `out`; returns its report and its times. A recipe is YAML, and JSON is YAML."""
    path = out.with_suffix(".json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(recipe))
    command = [tl, "finetune", path, "--out", out, "--overwrite", "--quiet", *options]
    _, times = timed(command, out.with_suffix(".log"))
    path.unlink()
    out.with_suffix(".log").unlink()
    return json.loads((out / "report.json").read_text()), times


def write_list(path, images):
    """Writes (file, class) pairs as a CSV of path,label. It appears whole: runs beside this one may be reading it."""
    with LOCK:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        with partial.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("path", "label"))
            writer.writerows((os.path.relpath(image, path.parent), label) for image, label in images)
        partial.replace(path)


def names(known):
    """An argparse type: some of the known names, with commas or spaces between them."""

    def parse(text):
        chosen = tuple(text.replace(",", " ").split())
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(f"expected some of {', '.join(known)}, found {name!r}")
        return chosen

    return parse
