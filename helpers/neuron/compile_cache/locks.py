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
SKEW = 60.0  # seconds that another host's clock may be ahead
NETWORK = ["nfs", "nfs4", "efs", "lustre", "cifs", "smb3", "smbfs", "beegfs", "ceph", "gpfs", "9p", "virtiofs"]
LOCAL_FUSE = ("fuse.fuse-overlayfs", "fuse.portal", "fuse.lxcfs")  # other FUSE mounts are S3's, SSH's and such
MODULE = re.compile(r"MODULE_[A-Za-z0-9_-]+\+[A-Za-z0-9]+")  # the name of a graph: MODULE_<graph hash>+<flags hash>


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
    def processes(self) -> dict[str, str]:
        """{graph or path of its lock: the process that names or opens it}; other users' files can't all be seen."""
        found = {}
        for process in psutil.process_iter(["pid", "name", "cmdline", "open_files"]):
            who = f"process {process.info['pid']} ({process.info['name']})"
            for file in process.info["open_files"] or ():
                if file.path.endswith(".lock"):
                    found[file.path] = f"{who} has its lock open"
            for graph in MODULE.findall(" ".join(process.info["cmdline"] or ())):
                found[graph] = f"{who} compiles it"
        return found

    def of(self, lock: Path, modified: float) -> str | None:
        """Who or what keeps this lock alive, in words; None for a stale one. `modified`: seconds since the epoch."""
        real = os.path.realpath(lock)
        known = self.processes
        if holder := known.get(lock.parent.name) or known.get(real) or locked_by_somebody(real):
            return holder
        if (age := seconds_since(modified)) < self.older_than:
            return f"no process here holds its lock, but it may be elsewhere: {age / 60:.0f} min old"
        if self.older_than == float("inf"):
            return "no process here holds its lock, but it may be on another host"
        return None


def seconds_since(modified: float) -> float:
    """The age of what was changed then; infinite for a date in the future, which a wrong clock made: it never ends."""
    age = time.time() - modified
    return age if age > -SKEW else float("inf")


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
    """The network file system that `path` is on, in words, or None. Mountpoint for Amazon S3 is one, of type fuse."""
    mounts = {mount.mountpoint: mount for mount in psutil.disk_partitions(all=True)}
    real = Path(os.path.realpath(path))
    mount = next((mounts[str(parent)] for parent in (real, *real.parents) if str(parent) in mounts), None)
    if mount is None:
        return None
    fuse = mount.fstype == "fuse" or (mount.fstype.startswith("fuse.") and mount.fstype not in LOCAL_FUSE)
    if fuse:
        return f"{mount.device} ({mount.fstype})"
    return mount.fstype if mount.fstype in NETWORK else None
