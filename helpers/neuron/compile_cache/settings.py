"""One place for the cache, understood alike by the compiler and by Optimum Neuron.

The compiler takes `--cache_dir` in NEURON_CC_FLAGS, else NEURON_COMPILE_CACHE_URL, else its default; paths and
s3:// locations. Optimum Neuron 0.4.5 reads NEURON_CC_FLAGS only, with the pattern below: of `/home/u/.cache/nc` it sees
`/home/u/`, of `s3://bucket/nc` it sees `s3`, of a quoted value nothing. So a path is set in both, of safe characters.
"""

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path

from helpers.neuron.compile_cache.layout import DEFAULT_PATH
from helpers.neuron.compile_cache.locks import network_file_system

FLAGS, URL = "NEURON_CC_FLAGS", "NEURON_COMPILE_CACHE_URL"
SAFE = re.compile(r"/[A-Za-z0-9_/-]+")
CACHE_DIR = re.compile(r"""(?:^|(?<=\s))--cache_dir(?:=|\s+)("[^"]*"|'[^']*'|\S+)\s*""")
NO_CACHE = re.compile(r"(?:^|\s)--no[_-]cache(?=\s|$)")
LINKS = Path("/var/tmp")


@dataclass(frozen=True)
class Configuration:
    """What `configure` set: the cache's path, as compiler and Optimum Neuron know it, and remarks."""

    path: Path
    set: dict[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{name}={value}" for name, value in self.set.items()]
        return "\n".join([*lines, *self.remarks])


def configure(path: Path, environment: MutableMapping = os.environ, links: Path = LINKS) -> Configuration:
    """Set NEURON_COMPILE_CACHE_URL and `--cache_dir` in NEURON_CC_FLAGS to `path`; other flags stay as they are.

    A path that Optimum Neuron would misread is reached through a symbolic link in `links` that it reads rightly. With
    --no_cache in the flags nothing is set. What the compiler can't write to, or lock, is a remark. Raises ValueError
    for an s3:// location, a folder that can't be made, or where no safe link can be made.
    """
    flags = environment.get(FLAGS, "")
    if NO_CACHE.search(flags):
        return Configuration(path, {}, (f"{FLAGS} says --no_cache: nothing is cached, and nothing was set",))
    remarks = []
    if was := disagreement(environment):
        remarks.append(f"before, {was}")
    refuse_url(str(path))
    path = Path(os.path.abspath(path.expanduser()))
    remarks += [f"warning: {warning}" for warning in unfit(path)]
    safe = path if SAFE.fullmatch(str(path)) else safe_link(path, links)
    if safe != path:
        remarks.append(f"Optimum Neuron would misread {path}, so it is reached through a link")
    kept = CACHE_DIR.sub("", flags).strip()
    wanted = {URL: str(safe), FLAGS: f"{kept} --cache_dir={safe}".strip()}
    environment.update(wanted)
    return Configuration(safe, wanted, tuple(remarks))


def unfit(path: Path) -> Iterator[str]:
    """Make the folder, and say why a compiler could not use it; ValueError where it can't be made."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{path} can't be made ({error.strerror}): choose another folder for the cache") from error
    try:
        tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        yield f"{path} can't be written to ({error.strerror}): new graphs will not be kept there; choose another folder"
    if kind := network_file_system(path):
        yield f"{path} is on {kind}, where locks are not reliable: use a local folder, and share with push and pull"


def refuse_url(location: str) -> None:
    """Raise ValueError unless `location` is a path."""
    if re.match(r"[A-Za-z0-9]+:/", location):
        fix = "keep the cache in a local folder, and share it with push and pull"
        raise ValueError(f"{location}: a cache there would be misread by Optimum Neuron: {fix}")


def safe_link(path: Path, links: Path) -> Path:
    """A symbolic link to `path` with a name of safe characters, in a folder that only this user can write to."""
    fix = "choose a cache path of the characters A-Z a-z 0-9 _ - / only"
    folder = links / f"neuron-cache-{os.getuid()}"
    if not SAFE.fullmatch(str(folder)):
        raise ValueError(f"no safe name for {path} can be made in {links}: {fix}")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if folder.is_symlink() or found.st_uid != os.getuid() or found.st_mode & 0o022:
            raise ValueError(f"{folder} is not this user's alone: {fix}")
        link = folder / hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
        if not link.is_symlink():
            link.symlink_to(path)
    except OSError as error:
        raise ValueError(f"no safe name for {path} can be made in {links} ({error.strerror}): {fix}") from error
    if os.readlink(link) != str(path):
        raise ValueError(f"{link} leads elsewhere: remove it, or {fix}")
    return link


# ── who reads what ──────────────────────────────────────────────────────────────────────────────────────────


def compiler_reads(environment: MutableMapping = os.environ) -> str | None:
    """Where the compiler keeps its cache; None if it keeps none. Of several --cache_dir the last counts."""
    flags = environment.get(FLAGS, "")
    if NO_CACHE.search(flags):
        return None
    if found := CACHE_DIR.findall(flags):
        return found[-1].strip("\"'")
    return environment.get(URL) or str(DEFAULT_PATH)


def optimum_reads(environment: MutableMapping = os.environ) -> str | None:
    """Where Optimum Neuron 0.4.5 believes the cache to be (`get_neuron_cache_path`, stated again)."""
    flags = environment.get(FLAGS, "")
    if "--no-cache" in flags:
        return None
    found = re.search(r"--cache_dir=([\w\/-]+)", flags)
    return found[1] if found else str(DEFAULT_PATH)


def disagreement(environment: MutableMapping = os.environ) -> str | None:
    """How the two disagree, in words; None if they agree, or nothing is cached."""
    compiler, optimum = compiler_reads(environment), optimum_reads(environment)
    if compiler is None or (optimum and os.path.normpath(compiler) == os.path.normpath(optimum)):
        return None
    return f"the compiler used {compiler} and Optimum Neuron {optimum or 'none'}"


def configured_path(environment: MutableMapping = os.environ) -> Path:
    """The folder that the compiler uses; raises ValueError where that is no local folder."""
    location = compiler_reads(environment) or str(DEFAULT_PATH)
    refuse_url(location)
    return Path(location)
