"""A training run's process: its lines as they come, the cause if it fails, and an end that leaves no child behind."""

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

from helpers.files import REPOSITORY

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PRCTL = ctypes.CDLL(None).prctl if sys.platform.startswith("linux") else None  # found before a fork
# Lines that name a cause: an exception, the runtime's or the compiler's error; and those of torchrun's own summary
CAUSE = re.compile(r"\bERROR\b|\b[A-Za-z_.]*(?:Error|Exception)\b: |\bNRT:|\[NCC_|No space left|Killed")
SUMMARY = re.compile(r"torch\.distributed|torch/distributed|ChildFailedError|failed \(exitcode|SignalException")


def lines_of(command: list[str], environment: Mapping[str, str]) -> Iterator[str]:
    """Run a command from the repository's root and yield its lines. It ends when the reader does, however that ends.

    If it fails, a RuntimeError shows the lines that name the cause, the last lines, and the file that keeps them all.
    """
    last, causes = deque(maxlen=15), deque(maxlen=5)
    descriptor, name = tempfile.mkstemp(prefix="workshop-", suffix=".log")
    process, kept, whole = None, False, True
    try:
        process = _start(command, environment)
        for line in map(str.rstrip, process.stdout):
            whole = whole and _written(descriptor, line)
            last.append(line)
            if CAUSE.search(line) and not SUMMARY.search(line) and line not in causes:
                causes.append(line)
            yield line
        process.wait()
        if process.returncode:
            earlier = [line for line in causes if line not in last]
            where = name if whole else f"{name}, up to where the disk was full"
            shown = "\n".join([*earlier, *(["…"] if earlier else []), *last])
            program = Path(command[0]).name
            kept = True
            raise RuntimeError(f"{program} ended with {process.returncode} (all it said: {where}):\n{shown}")
    finally:
        os.close(descriptor)
        if process:
            _end(process)
        if not kept:
            Path(name).unlink()


def _written(descriptor: int, line: str) -> bool:
    """Add a line to the file of all that was said; False where the disk is full, which must not end the training."""
    said = f"{line}\n".encode()
    try:
        return os.write(descriptor, said) == len(said)
    except OSError:
        return False


def _start(command: list[str], environment: Mapping[str, str]) -> subprocess.Popen:
    """Its own session, so that a signal can reach all of it; no input; bytes that are not UTF-8 are replaced."""
    return subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
        preexec_fn=end_with_parent,
    )


def end_with_parent() -> None:
    """Let Linux send this process SIGTERM when the thread that started it ends, even by a kill.

    torchrun then ends its workers. Other systems have no such signal.
    """
    if PRCTL:
        PRCTL(PR_SET_PDEATHSIG, signal.SIGTERM)


def _end(process: subprocess.Popen, grace: float = 5.0) -> None:
    """End what still runs of a process, of its session and of all that it started, and close its output."""
    family = []
    with contextlib.suppress(psutil.NoSuchProcess):
        family = psutil.Process(process.pid).children(recursive=True)  # torchrun's workers have sessions of their own
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for child in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    process.wait()
    process.stdout.close()
