"""How much disk a set-up takes, said and checked before anything is fetched."""

import os
import platform
import re
import shutil
import sys
import tempfile
from pathlib import Path

from scripts.install.pins import SetupError, environment

GB = 10**9
ROOMY = 10 * GB  # free space above which downloads may stay in the usual caches


def plan(requirements: Path, build: str) -> Path | None:
    """Say what is downloaded and kept; a SetupError where it does not fit. Sizes stand in the requirements file.

    Returns None where pip and uv may keep downloads as they do; where the disk is small, a folder for them in this
    environment, to be deleted at the end.
    """
    print(f"Setting up {environment()} with Python {platform.python_version()}, once: {requirements.name}", flush=True)
    text = requirements.read_text(encoding="utf-8")
    size = re.search(rf"^# size {build}: ([\d.]+) GB, download ([\d.]+) GB", text, re.MULTILINE)
    if not size:
        return None
    installed, download = (float(number) * GB for number in size.groups())
    here, own = Path(sys.prefix), Path(sys.prefix) / ".downloads"
    missing = max(0.0, installed - folder_size(here))
    small = own.exists() or min(free(here), free(Path.home())) < ROOMY
    kept = "deleted at the end, for the disk is small" if small else "kept in the cache of pip or uv"
    print(f"  downloads up to {download / GB:.1f} GB ({kept}), installs {installed / GB:.1f} GB", flush=True)
    coming = min(download, missing)
    refuse_small({here: missing, own if small else Path.home(): coming, temporary(): coming})
    return own if small else None


def temporary() -> Path:
    """Where pip unpacks a download."""
    return Path(tempfile.gettempdir())


def refuse_small(needs: dict[Path, float]) -> None:
    """Raise SetupError for a file system with less room than what is written to its folders (bytes by folder)."""
    by_disk: dict[int, list[Path]] = {}
    for folder in needs:
        by_disk.setdefault(nearest(folder).stat().st_dev, []).append(folder)
    for folders in by_disk.values():
        needed, there = sum(needs[folder] for folder in folders), free(folders[0])
        if needed > there:
            names = " and ".join(str(folder) for folder in folders)
            raise SetupError(
                f"{needed / GB:.1f} GB are needed for {names}, {there / GB:.1f} GB are free there: free some "
                "(`pip cache purge`), or use a larger disk for the clone, or TMPDIR for temporary files"
            )


def nearest(folder: Path) -> Path:
    """The folder itself, or its nearest parent that exists."""
    return next(parent for parent in (folder, *folder.parents) if parent.exists())


def free(folder: Path) -> int:
    """Free bytes where the folder is, or will be."""
    return shutil.disk_usage(nearest(folder)).free


def folder_size(folder: Path) -> int:
    """Bytes that a folder takes on the disk."""
    files = (Path(root) / name for root, _, names in os.walk(folder) for name in names)
    return sum(file.lstat().st_blocks * 512 for file in files)
