"""The cache folder: what is made once and read from then on, whole or absent."""

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def cache_folder() -> Path:
    """Where the dequantised model and the domain are kept: $WORKSHOP_CACHE, or .cache/ beside the notebooks."""
    return Path(os.environ.get("WORKSHOP_CACHE", REPOSITORY / ".cache"))


def make_atomically(target: Path, make: Callable[[Path], None]) -> None:
    """Let `make` fill a temporary sibling of `target`, then rename it: no half-made folder carries the final name."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".making-") as temporary:
            made = Path(temporary) / target.name
            made.mkdir()
            make(made)
            try:
                os.replace(made, target)
            except OSError as error:  # another process was faster: its copy is as good as ours
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
    except OSError as error:
        if error.errno == errno.ENOSPC:
            mend = f"disk full while making {target.name}: free 1.2 GB at {target.parent}, or set WORKSHOP_CACHE"
            raise OSError(errno.ENOSPC, mend) from error
        raise
