"""Code and pairs on their way to S3, each under its SHA-256 and sent once; what a job made, on its way back."""

import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile
import tempfile
from pathlib import Path

from helpers.data.load import BUILT_IN, load_preferences
from helpers.files import REPOSITORY, make_atomically, read_json
from helpers.runs import Run
from helpers.sagemaker.aws_errors import JobError
from helpers.store import ReadOnlyError, TransferError, open_store
from helpers.training.profiles import PROFILES

CODE = ("helpers", "scripts", "data", "pyproject.toml", "requirements-neuron.txt")  # data/: the built-in domain


def code_archive() -> bytes:
    """The checkout's code as tar.gz: git's files where there is git. Equal code gives equal bytes."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", *CODE], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
        for name in sorted(filter(None, listed.stdout.split("\0"))):
            content = (REPOSITORY / name).read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def pairs_file(source) -> bytes:
    """The training pairs, validated, as JSON Lines: an older `datasets` in the container reads them too."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in load_preferences(source)).encode()


def upload(job) -> tuple[str, str | None]:
    """(S3 prefix of the code, of the pairs or None for the built-in domain); only what is not there yet is sent."""
    code = send_once(job.output, "code", "code.tar.gz", code_archive())
    return code, None if job.data == BUILT_IN else send_once(job.output, "data", "train.jsonl", pairs_file(job.data))


def send_once(output: str, kind: str, name: str, content: bytes) -> str:
    """Store <output>/<kind>/<SHA-256>/<name>, checked by S3, unless it is there; returns its prefix."""
    digest = hashlib.sha256(content).hexdigest()
    prefix = f"{kind}/{digest}"
    try:
        store = open_store(output)
        if any(key == f"{prefix}/{name}" for key, _ in store.listing(prefix)):
            print(f"{name}: unchanged, already at {output.rstrip('/')}/{prefix}")
        else:
            store.write(f"{prefix}/{name}", content)
            print(f"{name}: {len(content)} bytes sent to {output.rstrip('/')}/{prefix}")
    except ReadOnlyError as error:
        raise JobError(f"{error}: your own role needs s3:PutObject there, and its key if it has one") from error
    except TransferError as error:
        raise JobError(str(error)) from error
    return f"{output.rstrip('/')}/{prefix}"


def fetch_results(output: str, name: str, method: str, target: Path) -> Path:
    """The run folder of a finished job at `target`, with the model at <target>/<method>/model.

    Where `target` is a run folder that has no such method yet, the method and its result are added. output: as in
    `TrainingJob`. A JobError tells what is missing; nothing is half there.
    """

    def fill(folder: Path) -> None:
        unpack("output.tar.gz", folder)
        unpack("model.tar.gz", folder / method / "model")

    def unpack(archive: str, folder: Path) -> None:
        with tempfile.TemporaryDirectory() as passing:
            file = Path(passing, archive)
            try:
                open_store(output).fetch(f"{name}/output/{archive}", file)
            except TransferError as error:
                raise JobError(f"{archive} of {name}: {error}; did the job complete?") from error
            folder.mkdir(parents=True, exist_ok=True)
            with tarfile.open(file) as packed:
                packed.extractall(folder, filter="data")  # nothing outside the folder

    if not target.exists():
        make_atomically(target, fill)
        return target
    if (target / method).exists() or not (target / "results.json").is_file():
        raise ValueError(f"{target.name} is there already: name another folder")
    with tempfile.TemporaryDirectory(dir=target, prefix=".fetching-") as passing:
        fetched = Path(passing)
        fill(fetched)
        os.replace(fetched / method, target / method)
        result = read_json(fetched / "results.json", {}).get("methods", {}).get(method)
    Run(target, PROFILES["laptop"]).store_result(method, result)
    return target
