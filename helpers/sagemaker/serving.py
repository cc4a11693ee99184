"""Serve saved models on this machine as the OpenAI API has it, so that any client of that API can ask them by name.

The server is a child process that listens on 127.0.0.1 only. It ends with the process that started it.
"""

import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import weakref
from pathlib import Path

from helpers.files import REPOSITORY
from helpers.runs.told import Refused

PACKAGES = ("openai", "fastapi", "starlette", "uvicorn", "pydantic")
INSTALL = "run `.venv/bin/python -m scripts.install requirements-serving.txt` in a terminal"
PATIENCE = 180.0  # seconds until it answers; importing torch takes most of them on a busy machine
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
HOST = "127.0.0.1"


class Server:
    """A running server: `url` for a client's base_url. Use it in a `with` block, or call `close`.

    It also ends when nothing refers to it any more, as when a notebook's cell is run again.
    """

    def __init__(self, models: dict[str, Path], process: subprocess.Popen, port: int, log: Path):
        self.models, self.process, self.log = models, process, log
        self.url = f"http://{HOST}:{port}/v1"
        self.ending = weakref.finalize(self, end, process, log)
        pass_by_proxies()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *error) -> None:
        self.close()

    def __str__(self) -> str:
        return f"{', '.join(self.models)} at {self.url}"

    def wait(self) -> None:
        """Until it answers; a Refused of one line, with the log's path, where it ended or takes too long."""
        began = time.monotonic()
        while not answers(self.url.removesuffix("/v1")):
            if (code := self.process.poll()) is not None or time.monotonic() - began > PATIENCE:
                self.ending.detach()
                end(self.process)
                ended = "does not answer" if code is None else f"ended with exit code {code}"
                raise Refused(f"the server of {', '.join(self.models)} {ended}: its log is {self.log}")
            print(f"\rthe server starts: {time.monotonic() - began:.0f} s", end="", flush=True)
            time.sleep(0.2)
        print()

    def close(self) -> None:
        """End the server; a second call does nothing."""
        self.ending()


def end(process: subprocess.Popen, log: Path | None = None) -> None:
    """End a server, and delete its log if one is given."""
    process.stdin.close()
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if log:
        log.unlink(missing_ok=True)


def pass_by_proxies() -> None:
    """From here on no client in this process asks a proxy for 127.0.0.1, which would look for it on its own machine."""
    for name in ("NO_PROXY", "no_proxy"):
        hosts = os.environ.get(name, "")
        if HOST not in hosts.split(","):
            os.environ[name] = f"{hosts},{HOST}".strip(",")


def serve(models: dict[str, Path | str], port: int = 0) -> Server:
    """Start serving {name: folder of save_pretrained} and return once it answers. Port 0 takes a free one.

    A model is loaded when it is first asked, and stays in memory. A ValueError names what is missing or wrong.
    """
    refuse_missing()
    folders = {name: checked_folder(name, folder) for name, folder in models.items()}
    if not folders:
        raise ValueError('no model is named: give {"name": folder}')
    try:
        listening = socket.create_server((HOST, port))
    except (OSError, OverflowError) as error:
        raise ValueError(f"port {port} can't be used ({error}): leave it out, or give another") from error
    descriptor, log = tempfile.mkstemp(prefix="workshop-server-", suffix=".log")
    with listening, os.fdopen(descriptor, "w") as output:
        told = json.dumps({name: str(folder) for name, folder in folders.items()})
        process = subprocess.Popen(
            [sys.executable, "-m", "helpers.sagemaker.chat_server", str(listening.fileno()), told],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,  # it ends when this end of the pipe is closed, also by a kill
            stdout=output,
            stderr=output,
            pass_fds=[listening.fileno()],
            start_new_session=True,  # the stop button of a notebook stops a cell, not the server
        )
        server = Server(folders, process, listening.getsockname()[1], Path(log))
    try:
        server.wait()
    except BaseException:
        server.close()
        raise
    return server


def refuse_missing() -> None:
    """A ValueError with the command that installs what serving takes."""
    if missing := [name for name in PACKAGES if not importlib.util.find_spec(name)]:
        raise ValueError(f"serving needs {', '.join(missing)}, not installed here: {INSTALL}")
    if not importlib.util.find_spec("transformers.commands.serving"):
        raise ValueError("serving takes the server of transformers 4.57: use the environment of `make setup`")


def checked_folder(name: str, folder: Path | str) -> Path:
    """The whole path of a model's folder; a ValueError for a name or a folder that can't be served."""
    if not NAME.fullmatch(name):
        raise ValueError(f"model name {name!r}: use up to 63 letters, digits, dots, hyphens and underscores")
    folder = Path(folder).expanduser().resolve()
    if not (folder / "config.json").is_file():
        raise ValueError(f"{name}: {folder} holds no config.json: give a folder made by save_pretrained()")
    return folder


def answers(address: str) -> bool:
    """True once somebody answers at this address."""
    try:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{address}/health", timeout=5) as said:
            return said.status == 200
    except (urllib.error.URLError, OSError):
        return False
