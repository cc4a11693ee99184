"""What a container may use: memory and processors, from control groups (cgroup v1 and v2).

A container's limit does not show in what the kernel says of the machine, and whoever passes it is killed. Files and
formats: the Linux kernel's documentation, admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
"""

from pathlib import Path

import psutil

ROOT, MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
NO_LIMIT = 2**60  # v1 writes a number near 2**63 where there is no limit
V2 = ("memory.max", "memory.current", "inactive_file")
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def memory_left(root: Path = ROOT, membership: Path = MEMBERSHIP) -> int | None:
    """Bytes that may still be used under the tightest limit of this process's groups; None where there is none.

    Pages of files that were read once count as used in a group and are given back on demand: they count as left here.
    """
    left = [_left(group, *(V2 if _is_v2(root) else V1)) for group in _groups("memory", root, membership)]
    return min((value for value in left if value is not None), default=None)


def free_memory() -> int:
    """Bytes that this process may still use: what the machine has available, or less under a container's limit."""
    available, left = psutil.virtual_memory().available, memory_left()
    return available if left is None else min(available, left)


def processors(root: Path = ROOT, membership: Path = MEMBERSHIP) -> float | None:
    """How many processors' time this process's groups may use together; None where there is no limit."""
    shares = [_share(group) for group in _groups("cpu", root, membership)]
    return min((value for value in shares if value is not None), default=None)


def _is_v2(root: Path) -> bool:
    return (root / "cgroup.controllers").exists()


def _groups(controller: str, root: Path, membership: Path) -> list[Path]:
    """The folders of this process's group and those above it, each of which may set a limit."""
    top = root if _is_v2(root) else root / controller
    lines = membership.read_text().splitlines() if membership.exists() else []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "" if _is_v2(root) else controller in controllers.split(","):
            own = top / path.lstrip("/")
            groups = [own, *own.parents][: len(own.relative_to(top).parts) + 1]
            return [group for group in groups if group.is_dir()]  # inside a container the upper ones may be hidden
    return []


def _number(file: Path) -> int | None:
    """The number in a file; None where there is no such file, or it says "max" or -1."""
    text = file.read_text().strip() if file.exists() else "max"
    return int(text) if text.isdigit() else None


def _left(group: Path, limit: str, usage: str, reclaimable: str) -> int | None:
    most, used = _number(group / limit), _number(group / usage)
    if most is None or used is None or most >= NO_LIMIT:
        return None
    stat = (line.split() for line in (group / "memory.stat").read_text().splitlines())
    return max(0, most - used + next((int(value) for name, value in stat if name == reclaimable), 0))


def _share(group: Path) -> float | None:
    """Time over period; v2 keeps both in cpu.max, v1 in two files."""
    if (group / "cpu.max").exists():
        quota, period = (group / "cpu.max").read_text().split()
        return int(quota) / int(period) if quota != "max" else None
    quota, period = _number(group / "cpu.cfs_quota_us"), _number(group / "cpu.cfs_period_us")
    return quota / period if quota and period else None
