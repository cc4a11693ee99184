"""A finished graph in a store: its files under its own key, and a manifest that is written last.

    graphs/<compiler>/<graph>@<digest>/<file>     a graph's files
    manifests/<compiler>/<graph>@<digest>.json    their sizes and SHA-256

A graph is there once its manifest is. The digest is the manifest's, so a listing tells what has changed, and what two
hosts compiled differently lies apart. Fingerprints of runs lie there in the same way.
"""

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from helpers.neuron.compile_cache import layout
from helpers.store import CorruptError, Store, open_file

FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
SHA256 = re.compile(r"[0-9a-f]{64}")
NAME = rf"{layout.MODULE.pattern}|{layout.XLA_GRAPH.pattern}|{layout.FINGERPRINTS}/[0-9a-f]+\.json"  # none leads out
KEY = re.compile(
    rf"manifests/(?P<compiler>{layout.COMPILER.pattern})/(?P<name>{NAME})@(?P<digest>[0-9a-f]{{16}})\.json"
)
Facts = dict[str, dict]  # {file name: {"sha256", "size"}}


@dataclass(frozen=True)
class Shared:
    """One graph in a store; `written` in seconds since the epoch."""

    compiler: str
    name: str
    digest: str
    written: float = 0.0

    def __str__(self) -> str:
        return f"{self.compiler}/{self.name}@{self.digest}"

    @property
    def key(self) -> str:
        """Its manifest."""
        return f"manifests/{self}.json"

    def key_of(self, file: str) -> str:
        """One of its files."""
        return f"graphs/{self}/{file}"


def shared_graphs(store: Store, compiler: str | None) -> tuple[list[Shared], list[str]]:
    """The graphs in a store, with one listing request a thousand, and the keys that are of none."""
    graphs, foreign = [], []
    for key, written in store.listing(f"manifests/{compiler}/" if compiler else "manifests/"):
        if parts := KEY.fullmatch(key):
            graphs.append(Shared(**parts.groupdict(), written=written))
        else:
            foreign.append(key)
    return graphs, foreign


def files_of(path: Path) -> dict[str, Path]:
    """{name: path} of a graph: the file itself, or those in its folder but for locks and a pull's note."""
    if not path.is_dir():
        return {path.name: path}
    names = [item.name for item in os.scandir(path) if item.is_file(follow_symlinks=False)]
    kept = (name for name in names if FILE.fullmatch(name) and not name.endswith(layout.LOCK))
    return {name: path / name for name in kept if name != layout.PULLED}


def manifest_of(files: dict[str, Path]) -> bytes:
    """Sizes and SHA-256 of a graph's files, as JSON that is equal for equal contents."""
    facts = {}
    for name, path in sorted(files.items()):
        with open_file(path) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            facts[name] = {"sha256": digest, "size": os.fstat(file.fileno()).st_size}
    return (json.dumps({"files": facts}, sort_keys=True, indent=1) + "\n").encode()


def digest_of(manifest: bytes) -> str:
    """Sixteen hex digits."""
    return hashlib.sha256(manifest).hexdigest()[:16]


def read_manifest(store: Store, shared: Shared) -> Facts:
    """Sizes and SHA-256 of a graph's files, or CorruptError if that can't be what was pushed."""
    manifest = store.read(shared.key)
    if digest_of(manifest) != shared.digest:
        raise CorruptError(f"its manifest is damaged: remove {shared.key} and push again")
    try:
        facts = json.loads(manifest)["files"]
        sound = all(FILE.fullmatch(name) and SHA256.fullmatch(fact["sha256"]) for name, fact in facts.items())
        sound = sound and all(isinstance(fact["size"], int) for fact in facts.values())
    except (ValueError, TypeError, LookupError, AttributeError):
        sound = False
    if not sound:
        raise CorruptError(f"its manifest is not one of ours: remove {shared.key}")
    is_folder = layout.MODULE.fullmatch(shared.name)
    if not ({layout.NEFF, layout.DONE} <= set(facts) if is_folder else set(facts) == {Path(shared.name).name}):
        raise CorruptError(f"it is not of a finished graph: remove {shared.key}")
    return facts
