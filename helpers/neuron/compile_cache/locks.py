"""Whether a lock in the cache is alive. A live one is never touched; in doubt, a lock is alive.

A lock is held by whoever has its file open, has locked it (flock or fcntl, seen across containers of one kernel), or
names its graph on the command line, as `neuronx-cc` does: `…/model.MODULE_<hash>+<hash>.hlo_module.pb`. Without such a
process it is still taken to be alive until it is an hour old, since a compile may be just starting, or run where this
process table does not show it (another container, another host). On a network file system only `older_than` ends the
doubt. The file may be empty and unlocked all the while (killed compiles leave such), so its contents say nothing.
"""

import fcntl
import os
import re
import time
from functools import cached_property
from pathlib import Path

import psutil

LOCK_AGE = 3600.0  # seconds: "this may take up to one hour for large models", says Optimum Neuron of one graph
NETWORK = (
    "nfs",
    "nfs4",
    "lustre",
    "cifs",
    "smb3",
    "smbfs",
    "fuse.s3fs",
    "fuse.mount-s3",
    "fuse.sshfs",
    "beegfs",
    "ceph",
)
NAMED_GRAPH = re.compile(r"MODULE_[A-Za-z0-9_-]+\+[A-Za-z0-9]+")


class Holders:
    """Who holds the locks of a cache: one look at the process table, taken when it is first needed.

    older_than: seconds after which a lock that no process holds is stale; LOCK_AGE by default, on a network file
    system never.
    """

    def __init__(self, root: Path, older_than: float | None = None):
        self.root, self.asked_age = root, older_than

    @cached_property
    def older_than(self) -> float:
        """Seconds."""
        if self.asked_age is not None:
            return self.asked_age
        return float("inf") if network_file_system(self.root) else LOCK_AGE

    @cached_property
    def naming(self) -> dict[str, str]:
        """{graph: process that names it on its command line}."""
        found = {}
        for process in psutil.process_iter(["pid", "name", "cmdline"]):
            for graph in NAMED_GRAPH.findall(" ".join(process.info["cmdline"] or ())):
                found[graph] = f"process {process.info['pid']} ({process.info['name']}) compiles it"
        return found

    @cached_property
    def opened(self) -> dict[str, str]:
        """{path of an open lock file: the process that has it open}; other users' files can't all be seen."""
        found = {}
        for process in psutil.process_iter(["pid", "name", "open_files"]):
            for file in process.info["open_files"] or ():
                if file.path.endswith(".lock"):
                    found[file.path] = f"process {process.info['pid']} ({process.info['name']}) has its lock open"
        return found

    def of(self, lock: Path, modified: float) -> str | None:
        """Who or what keeps this lock alive, in words; None for a stale one. `modified`: seconds since the epoch."""
        real = os.path.realpath(lock)
        if holder := self.naming.get(lock.parent.name) or self.opened.get(real) or locked_by_somebody(real):
            return holder
        age = time.time() - modified
        if age < self.older_than:
            return f"no process here holds its lock, but it may be elsewhere: {age / 60:.0f} min old"
        return None


def locked_by_somebody(path: str) -> str | None:
    """Says so if a shared lock can't be had at once. Asked only of files that this process has not open itself."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"its lock can't be opened ({error.strerror})"
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:  # held, or a file system that can't tell
        return "its lock is held"
    finally:
        os.close(descriptor)
    return None


def network_file_system(path: Path) -> str | None:
    """The type of the network file system that `path` is on, or None."""
    mounts = {mount.mountpoint: mount.fstype for mount in psutil.disk_partitions(all=True)}
    real = Path(os.path.realpath(path))
    mount = next((str(parent) for parent in (real, *real.parents) if str(parent) in mounts), None)
    kind = mounts.get(mount, "")
    return kind if kind in NETWORK else None
