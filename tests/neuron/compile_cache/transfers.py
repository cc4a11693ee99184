"""What the tests of push and pull share: workers for processes of their own, and what must hold of a cache and a store.

Imported by the processes that are killed, so it imports nothing heavy.
"""

import hashlib
import json
import os
import threading
from pathlib import Path

from tqdm.auto import tqdm

from helpers.neuron.compile_cache import CompileCache
from helpers.neuron.compile_cache.layout import PULLED
from helpers.neuron.compile_cache.sample import COMPILER

# Its usual lock is one between processes, and each process that is killed would leave its own.
tqdm.set_lock(threading.RLock())


def push(root: str, url: str, environment: dict[str, str]) -> None:
    """In a process of its own."""
    os.environ.update(environment)
    CompileCache(root, COMPILER).push(url)


def pull(root: str, url: str, environment: dict[str, str]) -> None:
    """In a process of its own."""
    os.environ.update(environment)
    CompileCache(root, COMPILER).pull(url)


def contents(cache: CompileCache) -> dict[str, dict[str, bytes]]:
    """{graph: {file: bytes}} of every graph that looks finished, without a pull's own note."""
    return {
        entry.name: {path.name: path.read_bytes() for path in entry.path.iterdir() if path.name != PULLED}
        for entry in cache.entries()
        if entry.state == "compiled"
    }


def stored(objects: dict[str, bytes]) -> dict[str, list[dict[str, bytes]]]:
    """{graph: [{file: bytes}, …]} of every graph in a store, given as {key: bytes}; every one must be whole."""
    graphs = {}
    for key, manifest in objects.items():
        if not key.startswith("manifests/"):
            continue
        files = {}
        for name, facts in json.loads(manifest)["files"].items():
            content = objects[f"{key.replace('manifests/', 'graphs/').removesuffix('.json')}/{name}"]
            assert hashlib.sha256(content).hexdigest() == facts["sha256"] and len(content) == facts["size"], key
            files[name] = content
        graphs.setdefault(key.split("/")[-1].split("@")[0], []).append(files)
    return graphs


def in_folder(root: Path) -> dict[str, bytes]:
    """{key: bytes} of a store in a folder, without what is being written."""
    found = (path for path in root.rglob("*") if path.is_file() and ".sending" not in path.parts)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in found}


def in_bucket(client, bucket: str, prefix: str, known: dict) -> dict[str, bytes]:
    """{key: bytes} of a store in a bucket. `known` keeps what was read, by ETag, which is the MD5 of the contents."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    objects = {}
    for found in (found for page in pages for found in page.get("Contents", ())):
        key, mark = found["Key"], (found["Key"], found["ETag"])
        if mark not in known:
            known[mark] = client.get_object(Bucket=bucket, Key=key)["Body"].read()
        objects[key.removeprefix(prefix)] = known[mark]
    return objects
