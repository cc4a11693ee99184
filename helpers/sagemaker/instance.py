"""This machine in place of a SageMaker instance: it runs the request that was submitted, with /opt/ml elsewhere.

What differs from the request is in `OURS` and nowhere else. It needs bash, and `python3` beside this Python.
"""

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

from helpers.files import cache_folder, sha256_of, write_json
from helpers.sagemaker.aws_errors import JobError, client, told
from helpers.sagemaker.follow import LOGS
from helpers.store import S3_URL, TransferError, open_store

# One process for all NeuronCores; the packages are here already
OURS = {"WORKSHOP_PROCESSES": "1", "WORKSHOP_REQUIREMENTS": ""}


def lay_out(base: Path, settings: dict, hosts=("algo-1",), host="algo-1") -> Path:
    """The folders and settings that SageMaker makes before it starts a container."""
    for folder in ("input/config", "input/data", "model", "output/data", "checkpoints"):
        (base / folder).mkdir(parents=True)
    write_json(base / "input/config/hyperparameters.json", {name: str(value) for name, value in settings.items()})
    resources = {"current_host": host, "hosts": list(hosts), "network_interface_name": "lo"}
    write_json(base / "input/config/resourceconfig.json", resources)
    return base


class Instance(threading.Thread):
    """One job. `tell` takes what DescribeTrainingJob is to say from now on, under the names of moto's attributes."""

    def __init__(self, request: dict, region: str, folder: Path, tell):
        super().__init__(daemon=True)
        self.request, self.name, self.tell = request, request["TrainingJobName"], tell
        self.base, self.logs = folder / self.name / "ml", client("logs", region)
        self.process, self.stopped = None, ""

    def run(self) -> None:
        """The whole life of a job; however it goes, it ends."""
        ended = "Failed", "InternalServerError: see service.log in the folder of the rehearsal"
        try:
            ended = self.live()
        except (TransferError, JobError, OSError, ValueError) as error:
            ended = "Failed", f"ClientError: {error}"
        finally:
            status, reason = ended
            why = {"failure_reason": reason} if status == "Failed" else {}
            self.tell(secondary_status=self.stopped or status, training_job_status=status, **why)

    def live(self) -> tuple[str, str]:
        """(status at the end, why it failed)."""
        began = datetime.now(UTC)
        self.tell(secondary_status="Downloading", training_start_time=began)  # the first billed second
        code = self.start_once()
        while code == -signal.SIGKILL and self.request["EnableManagedSpotTraining"] and not self.stopped:
            self.tell(secondary_status="Interrupted")
            self.upload_checkpoints()
            code = self.start_once()
        self.tell(secondary_status="Uploading")
        self.upload(succeeded=code == 0)
        now = datetime.now(UTC)
        self.tell(training_end_time=now, billable_time_in_seconds=max(1, round((now - began).total_seconds())))
        failure = self.base / "output" / "failure"
        said = failure.read_text(encoding="utf-8") if failure.is_file() else "the log says why"
        status = "Stopped" if self.stopped else "Failed" if code else "Completed"
        return status, f"AlgorithmError: {said}, exit code: {code}"

    def start_once(self) -> int:
        """What an instance does from its start to its end; after a spot interruption another one does it again."""
        self.download()
        self.tell(secondary_status="Training")
        return self.execute()

    def download(self) -> None:
        """Lay out /opt/ml anew; fetch the channels, and the checkpoints of an interrupted start."""
        shutil.rmtree(self.base, ignore_errors=True)
        lay_out(self.base, self.request["HyperParameters"])
        for channel in self.request["InputDataConfig"]:
            url = channel["DataSource"]["S3DataSource"]["S3Uri"]
            if not fetch_all(url, self.base / "input" / "data" / channel["ChannelName"]):
                raise ValueError(f"Data download failed: No S3 objects found under {url}")
        fetch_all(self.request["CheckpointConfig"]["S3Uri"], self.base / "checkpoints")

    def execute(self) -> int:
        """Run the request's own command; its lines go to CloudWatch."""
        if self.stopped:
            return 1
        asked = self.request["AlgorithmSpecification"]
        command = [*asked["ContainerEntrypoint"], *asked["ContainerArguments"]]
        self.process = subprocess.Popen(
            [part.replace("/opt/ml", shlex.quote(str(self.base))) for part in command],
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        limit = self.request["StoppingCondition"]["MaxRuntimeInSeconds"]
        timer = threading.Timer(limit, self.stop, ["MaxRuntimeExceeded"])
        timer.start()
        with self.process:
            self.write_log(self.process.stdout)
        timer.cancel()
        return self.process.returncode

    def environment(self) -> dict[str, str]:
        """The request's environment, and where things are on this machine."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SM_", "WORKSHOP_"))}
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        here = {"SAGEMAKER_BASE_DIR": str(self.base), "PYTHONPATH": str(self.base / "code"), "MASTER_PORT": str(port)}
        here |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        return kept | self.request["Environment"] | OURS | here | {"WORKSHOP_CACHE": str(cache_folder())}

    def write_log(self, lines) -> None:
        """Put each line into the job's stream, as it comes."""
        place = {"logGroupName": LOGS, "logStreamName": f"{self.name}/algo-1-{time.time_ns()}"}
        with told(f"log of {self.name}"):
            if not self.logs.describe_log_groups(logGroupNamePrefix=LOGS)["logGroups"]:
                self.logs.create_log_group(logGroupName=LOGS)
            self.logs.create_log_stream(**place)
            for line in filter(str.strip, lines):
                event = {"timestamp": int(time.time() * 1000), "message": line.rstrip()}
                self.logs.put_log_events(**place, logEvents=[event])

    def upload(self, succeeded: bool) -> None:
        """The model of a job that succeeded, the output and the checkpoints of any: where SageMaker puts them."""
        store = open_store(f"{self.request['OutputDataConfig']['S3OutputPath']}/{self.name}/output")
        folders = {"output.tar.gz": self.base / "output" / "data"}
        folders |= {"model.tar.gz": self.base / "model"} if succeeded else {}
        with tempfile.TemporaryDirectory() as passing:
            for name, folder in folders.items():
                packed = Path(passing, name)
                with tarfile.open(packed, "w:gz", compresslevel=1) as archive:
                    archive.add(folder, ".")
                send(store, packed, name)
        self.upload_checkpoints()

    def upload_checkpoints(self) -> None:
        """Checkpoints to S3, from where the next start of the job has them. SageMaker copies them all the time."""
        checkpoints, store = self.base / "checkpoints", open_store(self.request["CheckpointConfig"]["S3Uri"])
        for path in sorted(checkpoints.rglob("*")):
            if path.is_file():
                send(store, path, path.relative_to(checkpoints).as_posix())

    def stop(self, why: str = "Stopped") -> None:
        """Ask the job to end, as SageMaker does; what it has made so far is kept."""
        self.stopped = why
        if self.process and self.process.poll() is None:
            self.process.terminate()

    def kill(self) -> None:
        """End the job and all its processes at once: the service ends."""
        self.stopped = "Stopped"
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)


def fetch_all(url: str, folder: Path) -> int:
    """Copy everything under an S3 prefix into a folder; returns how many files."""
    parts = S3_URL.fullmatch(url)
    prefix, store, number = parts["prefix"].rstrip("/"), open_store(f"s3://{parts['bucket']}"), 0
    for key, _ in store.listing(f"{prefix}/"):
        target = folder / key.removeprefix(f"{prefix}/")
        target.parent.mkdir(parents=True, exist_ok=True)
        store.fetch(key, target)
        number += 1
    return number


def send(store, path: Path, key: str) -> None:
    """One file with its checksum."""
    store.send(path, key, sha256_of(path))
