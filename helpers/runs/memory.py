"""How much memory a piece of work takes above what was loaded before: CUDA's allocator, else the resident set."""

import ctypes
import gc
import re
import sys
import threading
from pathlib import Path

import psutil
import torch

# glibc keeps what is freed for later unless told otherwise: with these a freed tensor's pages go back at once, and the
# resident set of a process is what is alive in it. They must be set before the process starts.
EXACT = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # as malloc.h numbers the options of mallopt


def release_memory() -> None:
    """Give freed memory back to the system, which glibc otherwise keeps in this process; elsewhere only collect."""
    gc.collect()
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):  # musl has none
        libc.malloc_trim(0)


def return_large_blocks(size: int = 8 * 2**20) -> None:
    """Let glibc give freed blocks of `size` bytes and more back at once. By itself it keeps them, up to 32 MiB each."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        for option in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
            libc.mallopt(option, size)


class Memory:
    """Peak memory in bytes above that at the time it was made. Linux or CUDA; an OSError says so elsewhere."""

    def __init__(self):
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
            self.loaded = torch.cuda.memory_allocated()
        elif sys.platform != "linux":
            raise OSError("the peak of a resident set can be read on Linux only: measure there, or on CUDA")
        else:
            Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
            self.loaded = psutil.Process().memory_info().rss

    def peak(self) -> int:
        """Bytes above the start, so far."""
        if torch.cuda.is_available():
            return torch.cuda.max_memory_allocated() - self.loaded
        status = Path("/proc/self/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024 - self.loaded

    def now(self) -> int:
        """Bytes above the start, at this moment."""
        if torch.cuda.is_available():
            return torch.cuda.memory_allocated() - self.loaded
        return psutil.Process().memory_info().rss - self.loaded


class Sampler:
    """Inside `with`, samples `memory.now()` every few milliseconds: the highest sample checks the reported peak."""

    def __init__(self, memory: Memory, every: float = 0.01):
        self.memory, self.every, self.highest, self.samples = memory, every, 0, 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def _sample(self) -> None:
        while not self._done.wait(self.every):
            self.highest = max(self.highest, self.memory.now())
            self.samples += 1

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._done.set()
        self._thread.join()
