"""Runs a program and measures it: seconds from start to end, and its peak memory."""

import os
import subprocess
import tempfile
import threading
import time
from pathlib import Path


class Failed(Exception):
    """A program that did not end as it should, told in one line."""


class Measured:
    """`seconds` of the whole program; `rss`, the largest process's peak in MiB; `pss`, the peak of the sum over all
    its processes, pages that they share counted once, if that was asked for; `stdout`."""

    def __init__(self, seconds, rss, pss, stdout):
        self.seconds, self.rss, self.pss, self.stdout = seconds, rss, pss, stdout


def run(command: list, cores: list, memory: bool = False, log: Path = None, environment: dict = None) -> Measured:
    """Runs `command` on `cores`. `memory` samples the sum over all processes, ten times a second."""
    stdout = tempfile.TemporaryFile()
    stderr = open(log, "wb") if log else subprocess.DEVNULL
    # What the user's shell says of threads would hold for one of the two only in part.
    inherited = {name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    command = [str(part) for part in command]
    started = time.perf_counter()
    process = subprocess.Popen(
        ["taskset", "--cpu-list", ",".join(map(str, cores)), *command],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        env={**inherited, **(environment or {})},
        start_new_session=True,
    )
    sampler = Sampler(process.pid) if memory else None
    try:
        _, status, usage = os.wait4(process.pid, 0)
    except BaseException:
        os.killpg(process.pid, 15)
        raise
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    pss = sampler.stop() if sampler else None
    if log:
        stderr.close()
    stdout.seek(0)
    text = stdout.read().decode()
    if process.returncode != 0:
        said = log.read_text().strip().splitlines()[-1:] if log else []
        raise Failed(f"exit code {process.returncode}: {' '.join(command)}: {' '.join(said)}")
    return Measured(seconds, usage.ru_maxrss / 1024, pss, text)


class Sampler:
    """The peak of the proportional set size of a process and all below it."""

    def __init__(self, pid: int):
        self.pid, self.peak, self.ended = pid, 0.0, threading.Event()
        self.thread = threading.Thread(target=self.sample, daemon=True)
        self.thread.start()

    def sample(self) -> None:
        while not self.ended.wait(0.1):
            self.peak = max(self.peak, sum(pss(pid) for pid in family(self.pid)))

    def stop(self) -> float:
        self.ended.set()
        self.thread.join()
        return self.peak


def family(pid: int) -> list:
    """A process and its descendants, as far as they are still there."""
    found = [pid]
    for parent in found:
        try:
            for thread in Path(f"/proc/{parent}/task").iterdir():
                found += map(int, (thread / "children").read_text().split())
        except OSError:
            pass
    return found


def pss(pid: int) -> float:
    """MiB."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0
