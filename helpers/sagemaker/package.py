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

from helpers.data.load import BUILT_IN
from helpers.files import REPOSITORY, make_atomically, read_json, write_json
from helpers.runs import Run
from helpers.runs.folder import place_of
from helpers.sagemaker.aws_errors import JobError
from helpers.store import ReadOnlyError, TransferError, open_store
from helpers.training.profiles import PROFILES

CODE = ("helpers", "scripts", "data", "pyproject.toml", "requirements-neuron.txt")  # data/: the built-in domain
TRAIN = "/input/data/train"  # how the place of a job's pairs ends in its container


def code_archive(requirements: str | None = None) -> bytes:
    """The checkout's code, and the file of what the container installs, as tar.gz. Equal code gives equal bytes."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
        for name in sorted({*code_files(), *([requirements] if requirements else [])}):
            content = (REPOSITORY / name).read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def code_files(root: Path = REPOSITORY) -> list[str]:
    """git's files of `CODE`; all of them where git is missing, or does not know the folder (a downloaded archive)."""
    try:
        told = subprocess.run(["git", "ls-files", "-z", *CODE], cwd=root, capture_output=True, text=True, check=True)
    except (subprocess.CalledProcessError, FileNotFoundError):
        found = [path for name in CODE for path in (root / name, *(root / name).rglob("*"))]
        return [path.relative_to(root).as_posix() for path in found if path.is_file() and path.suffix != ".pyc"]
    return [name for name in told.stdout.split("\0") if name and (root / name).is_file()]


def pairs_file(job) -> bytes:
    """The training pairs, validated, as JSON Lines: an older `datasets` in the container reads them too."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in job.pairs()).encode()


def upload(job) -> tuple[str, str | None]:
    """(S3 prefix of the code, of the pairs or None for the built-in domain); only what is not there yet is sent."""
    code = send_once(job.output, "code", "code.tar.gz", code_archive(job.requirements))
    return code, None if job.data == BUILT_IN else send_once(job.output, "data", "train.jsonl", pairs_file(job))


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


def fetch_results(output: str, name: str, method: str, target: Path, data=BUILT_IN) -> Path:
    """The run folder of a finished job at `target`, with the model at <target>/<method>/model.

    Where `target` is a run folder that has no such method yet, the method and its result are added. output, data: as in
    `TrainingJob`; what the job noted of its pairs is their place in its container, and `data` is put in its place. A
    JobError tells what is missing; nothing is half there.
    """

    def fill(folder: Path) -> None:
        unpack("output.tar.gz", folder)
        unpack("model.tar.gz", folder / method / "model")
        note_pairs(folder, method, data)

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
        found = read_json(fetched / "results.json", {})
    run = Run(target, PROFILES["laptop"])
    if "data" in found and "data" not in run.results:
        run.write_results(data=found["data"])
    run.store_result(method, found.get("methods", {}).get(method))
    return target


def note_pairs(folder: Path, method: str, data) -> None:
    """Where a fetched run's pairs are on this machine, in place of where they were in the container.

    With that the notebooks read the same pairs and know the stage as trained. A ValueError for another `data` than the
    job had, as far as that can be seen.
    """
    file = folder / method / "settings.json"
    settings = read_json(file, {})
    own = str(settings.get("source", BUILT_IN)).endswith(TRAIN)
    if data == BUILT_IN:
        if own:
            print("the job trained on pairs of your own: give data= again, or the notebooks don't know them")
        return
    if settings and not own:
        raise ValueError(f"data is {data}, but the job trained on {settings.get('source', BUILT_IN)}: leave it out")
    place = place_of(str(data))
    results = read_json(folder / "results.json", {})
    of_the_method = results.get("methods", {}).get(method, {})
    for noted in (settings, of_the_method.get("settings", {})):
        noted.update({"source": place} if noted else {})
    if settings:
        write_json(file, settings)
    write_json(folder / "results.json", results | {"data": {"source": Path(place).name, "load_from": place}})
