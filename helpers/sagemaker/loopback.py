"""SageMaker, S3 and CloudWatch Logs on 127.0.0.1, where a training job really runs: on this machine.

moto answers for AWS; what it leaves out is here: a job takes its time, can be stopped, and has its name once. The
service is a process of its own, so that a kernel may restart while a job runs. It ends by itself when nobody has asked
it anything for an hour. `python -m helpers.sagemaker.loopback FOLDER` is how `start` starts it.
"""

import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from helpers.files import REPOSITORY, read_json, write_json
from helpers.sagemaker.instance import Instance

IDLE = 3600.0  # seconds without a question and without a job
PATIENCE = 60.0  # seconds until the service answers
ACCOUNT = "123456789012"  # moto's
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
BEFORE: dict[str, str] = {}  # the environment as it was before boto3 was pointed here
INSTALL = "run `.venv/bin/python -m scripts.install requirements-sagemaker.txt` in a terminal"


class Service:
    """WSGI: moto's API, with CreateTrainingJob and StopTrainingJob as a real instance would follow them."""

    def __init__(self, folder: Path, moto):
        self.folder, self.moto, self.jobs, self.lock = folder, moto, {}, threading.Lock()
        self.asked, self.ended = time.monotonic(), False

    def __call__(self, environment, start_response):
        self.asked = time.monotonic()
        if environment["PATH_INFO"].startswith("/_rehearsal"):
            self.ended = environment["PATH_INFO"].endswith("/stop")
            return answer(start_response, "200 OK", {"folder": str(self.folder)})
        action = environment.get("HTTP_X_AMZ_TARGET", "")
        if action not in ("SageMaker.CreateTrainingJob", "SageMaker.StopTrainingJob"):
            return self.moto(environment, start_response)
        body = environment["wsgi.input"].read(int(environment["CONTENT_LENGTH"]))
        environment["wsgi.input"] = io.BytesIO(body)
        follow = self.create if action.endswith("CreateTrainingJob") else self.stop
        return follow(environment, start_response, json.loads(body))

    def create(self, environment, start_response, request: dict):
        """What SageMaker does with a new job; the second of a name is refused."""
        from moto.backends import get_backend

        name, region = request["TrainingJobName"], re.search(r"/\d+/([^/]+)/", environment["HTTP_AUTHORIZATION"])[1]
        with self.lock:
            if name in self.jobs:
                said = {"__type": "ResourceInUse", "message": f"Training job names must be unique: {name}"}
                return answer(start_response, "400 Bad Request", said)
            said = list(self.moto(environment, start_response))
            described = get_backend("sagemaker")[ACCOUNT][region].training_jobs.get(name)
            if described is None:  # moto refused it, and has said so
                return said
            tell = vars(described).update
            tell(training_job_status="InProgress", secondary_status="Starting", environment=request["Environment"])
            tell(training_start_time=None, training_end_time=None)
            self.jobs[name] = Instance(request, region, self.folder, tell)
        self.jobs[name].start()
        return said

    def stop(self, environment, start_response, request: dict):
        """StopTrainingJob."""
        job = self.jobs.get(request["TrainingJobName"])
        if job is None or not job.is_alive():
            said = {"__type": "ValidationException", "message": "The job is not running, so it can't be stopped"}
            return answer(start_response, "400 Bad Request", said)
        job.tell(training_job_status="Stopping", secondary_status="Stopping")
        job.stop()
        return answer(start_response, "200 OK", {})

    def wanted(self) -> bool:
        """False once it was told to stop, or nobody has needed it for long."""
        if any(job.is_alive() for job in self.jobs.values()):
            self.asked = time.monotonic()
        return not self.ended and time.monotonic() - self.asked < IDLE


def answer(start_response, status: str, said: dict) -> list[bytes]:
    """A JSON answer."""
    body = json.dumps(said).encode()
    start_response(status, [("Content-Type", "application/x-amz-json-1.1"), ("Content-Length", str(len(body)))])
    return [body]


def point_boto3(url: str, region: str) -> None:
    """From here on boto3 finds the service and nothing else in this process: no key, no file of the user's is read."""
    release_boto3()
    BEFORE.update({name: os.environ.get(name, "") for name in ("NO_PROXY", "no_proxy")})
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        BEFORE[name] = os.environ.pop(name)
    files = dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), os.devnull)
    proxies = {name: f"{BEFORE[name]},127.0.0.1".strip(",") for name in ("NO_PROXY", "no_proxy")}
    os.environ.update(CREDENTIALS | files | proxies | {"AWS_ENDPOINT_URL": url, "AWS_DEFAULT_REGION": region})


def release_boto3() -> None:
    """What the environment held before `point_boto3` holds again."""
    if BEFORE:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            del os.environ[name]
        os.environ.update(BEFORE)
        BEFORE.clear()


def start(folder: Path) -> str:
    """The address of the service of this folder: the one that answers already, else a new one."""
    folder = folder.resolve()
    if (url := address(folder)) and ask(url) == str(folder):
        return url
    if not importlib.util.find_spec("moto") or not importlib.util.find_spec("flask"):
        raise ValueError(f"a rehearsal needs moto, which is not installed: {INSTALL}, or name role and bucket")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "service.json").unlink(missing_ok=True)
    with (folder / "service.log").open("w") as log:
        command = [sys.executable, "-m", "helpers.sagemaker.loopback", str(folder)]
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=log, stderr=log, start_new_session=True)
    began = time.monotonic()
    while not (url := address(folder)):
        if process.poll() is not None or time.monotonic() - began > PATIENCE:
            process.kill()
            raise RuntimeError(f"the rehearsal's service did not start: see {folder.name}/service.log")
        print(f"\rthe service that stands for AWS starts: {time.monotonic() - began:.0f} s", end="", flush=True)
        time.sleep(0.1)
    print()
    return url


def stop(folder: Path) -> None:
    """End the service of this folder, and a job that runs there."""
    if url := address(folder):
        ask(url, "/stop")
        (folder / "service.json").unlink(missing_ok=True)


def address(folder: Path) -> str | None:
    """Where the service of this folder said that it listens."""
    return read_json(folder / "service.json", {}).get("url")


def ask(url: str, what: str = "") -> str | None:
    """The folder of the service at this address; None where none answers."""
    try:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{url}/_rehearsal{what}", timeout=5) as said:
            return json.loads(said.read())["folder"]
    except (urllib.error.URLError, OSError, ValueError, KeyError):  # nobody, or somebody else
        return None


def main(folder: Path) -> None:
    """Serve until nobody wants it."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    service = Service(folder, DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, service, threaded=True)
    url = f"http://127.0.0.1:{server.server_port}"
    point_boto3(url, "us-east-1")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    write_json(folder / "service.json", {"url": url})
    while service.wanted():
        time.sleep(0.2)
    for job in service.jobs.values():
        job.kill()
        shutil.rmtree(job.base, ignore_errors=True)  # as an instance is gone after its job; results are in S3


if __name__ == "__main__":
    main(Path(sys.argv[1]))
