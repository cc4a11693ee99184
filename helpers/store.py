"""A folder or a prefix in S3 as a place for files: each under its key, written whole or not at all."""

import base64
import contextlib
import errno
import hashlib
import io
import os
import re
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from helpers.aws import client_fix, fix_of

S3_URL = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(?P<prefix>.*))?")
WORKERS = 8
SENDING = ".sending"
UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)
ATTEMPTS = 10  # of one request; boto3 waits longer each time, up to 20 s
READ_ONLY = ("AccessDenied", "AllAccessDisabled", "MethodNotAllowed")
DAMAGED = ("BadDigest", "NoSuchKey", "404")


class TransferError(RuntimeError):
    """A transfer that can't go on; one line, with the fix."""


class ReadOnlyError(TransferError):
    """The place can't be written to."""


class CorruptError(TransferError):
    """Contents that are not what their checksum says."""


class Store(ABC):
    """What is asked of a place. A key is a path below it, with slashes."""

    @abstractmethod
    def listing(self, prefix: str) -> Iterator[tuple[str, float]]:
        """(key, when it was written, in seconds since the epoch) of everything under a prefix."""

    @abstractmethod
    def get(self, key: str, writer: BinaryIO) -> None:
        """Copy an object into an open file."""

    @abstractmethod
    def put(self, reader: BinaryIO, key: str, sha256: str) -> None:
        """Store what an open file holds; CorruptError if that is not what the checksum says."""

    def read(self, key: str) -> bytes:
        """A small object."""
        self.get(key, content := io.BytesIO())
        return content.getvalue()

    def write(self, key: str, content: bytes) -> None:
        """Store a small object."""
        self.put(io.BytesIO(content), key, hashlib.sha256(content).hexdigest())

    def fetch(self, key: str, target: Path) -> None:
        """Copy an object to a file."""
        with target.open("wb") as writer:
            self.get(key, writer)

    def send(self, source: Path, key: str, sha256: str) -> None:
        """Store a file."""
        with open_file(source) as reader:
            self.put(reader, key, sha256)


def open_store(url: str) -> Store:
    """The store at `s3://bucket/prefix` or in a folder; ValueError for anything else."""
    url = str(url)
    if url.startswith("s3:"):
        return S3Store(url)
    if "://" in url:
        raise ValueError(f"{url}: give a folder or s3://bucket/prefix")
    return FolderStore(Path(url).expanduser())


def open_file(path: Path) -> BinaryIO:
    """A file, open for reading; OSError (ELOOP) for a symbolic link."""
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb")


class FolderStore(Store):
    """A folder, for instance on a shared disk."""

    def __init__(self, root: Path):
        self.root = Path(os.path.abspath(root))

    def __str__(self) -> str:
        return str(self.root)

    def listing(self, prefix):
        for folder, _, names in os.walk(self.root / prefix):
            for path in (Path(folder, name) for name in names):
                if not path.is_symlink():
                    yield path.relative_to(self.root).as_posix(), path.stat().st_mtime

    def get(self, key, writer):
        try:
            reader = open_file(self.root / key)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ELOOP):  # nothing there, or a symbolic link in its place
                raise CorruptError(f"an object is missing ({error.strerror}): push it again with force") from error
            raise TransferError(f"{self.root} can't be read ({error.strerror})") from error
        with reader:
            shutil.copyfileobj(reader, writer)

    def put(self, reader, key, sha256):
        target, half = self.root / key, self.root / SENDING / f"{os.getpid()}-{os.urandom(4).hex()}"
        try:
            for folder in (half.parent, target.parent):
                folder.mkdir(parents=True, exist_ok=True)
            with half.open("x+b") as file:
                shutil.copyfileobj(reader, file)
                file.seek(0)
                if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                    raise CorruptError("a file changed while it was sent: push again")
                os.fsync(file.fileno())
            os.replace(half, target)
        except OSError as error:
            if error.errno in UNWRITABLE:
                raise ReadOnlyError(f"{self.root} can't be written to ({error.strerror})") from error
            raise
        finally:
            half.unlink(missing_ok=True)

    def sweep(self, older_than: float = 3600.0) -> None:
        """Delete what killed transfers left half-written, once it is `older_than` seconds old."""
        for path in (self.root / SENDING).glob("*"):
            if time.time() - path.lstat().st_mtime > older_than:
                path.unlink(missing_ok=True)


class S3Store(Store):
    """A prefix of an S3 bucket. Credentials, region and endpoint are found as boto3 finds them."""

    def __init__(self, url: str):
        parts = S3_URL.fullmatch(url)
        if not parts:
            raise ValueError(f"{url}: an S3 location is s3://bucket/prefix")
        try:
            import boto3
            from boto3.s3.transfer import TransferConfig
            from botocore.config import Config
        except ImportError as error:
            raise ValueError(f"{url}: S3 needs boto3: pip install boto3, at the pin of requirements.txt") from error
        retries = {"mode": "standard", "total_max_attempts": ATTEMPTS}
        config = Config(retries=retries, max_pool_connections=WORKERS, connect_timeout=10, read_timeout=60)
        prefix = (parts["prefix"] or "").strip("/")
        self.url, self.bucket, self.prefix = url, parts["bucket"], f"{prefix}/" if prefix else ""
        with self.told():
            self.client = boto3.session.Session().client("s3", config=config)
        self.one_thread = TransferConfig(use_threads=False)  # files are moved in parallel already

    def __str__(self) -> str:
        return self.url

    def listing(self, prefix):
        pages = self.client.get_paginator("list_objects_v2")
        with self.told():
            for page in pages.paginate(Bucket=self.bucket, Prefix=self.prefix + prefix):
                for found in page.get("Contents", ()):
                    yield found["Key"].removeprefix(self.prefix), found["LastModified"].timestamp()

    def get(self, key, writer):
        with self.told():
            self.client.download_fileobj(self.bucket, self.prefix + key, writer, Config=self.one_thread)

    def put(self, reader, key, sha256):
        checksum = base64.b64encode(bytes.fromhex(sha256)).decode()  # S3 refuses contents that differ
        with self.told():
            self.client.put_object(Bucket=self.bucket, Key=self.prefix + key, Body=reader, ChecksumSHA256=checksum)

    @contextlib.contextmanager
    def told(self):
        """boto3's errors in one line with the fix. They carry no secret: request, error code, host."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError, FlexibleChecksumError

        try:
            yield
        except ClientError as error:
            raise self._answered(error.response.get("Error", {}), error.operation_name) from error
        except FlexibleChecksumError as error:
            raise CorruptError("S3 sent contents that are not those of its checksum: pull again") from error
        except (BotoCoreError, Boto3Error, ValueError) as error:  # ValueError: an endpoint that is no URL
            raise TransferError(f"{self}: {' '.join(str(error).split())}: {client_fix(error)}") from error

    def _answered(self, answer: dict, operation: str) -> TransferError:
        code = answer.get("Code", "?")
        if code in READ_ONLY and operation == "PutObject":
            return ReadOnlyError(f"{self} can't be written to ({code})")
        kind = CorruptError if code in DAMAGED else TransferError
        fix = fix_of(code, answer.get("Message", "")) or f"see “{code}” in the S3 API's list of error responses"
        return kind(f"{self}: S3 answered {code}: {fix}")
