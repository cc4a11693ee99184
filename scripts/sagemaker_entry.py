"""What a SageMaker training job runs in its container: `python3 -m scripts.sagemaker_entry`.

It reads what SageMaker put under /opt/ml, installs the requirements without touching the container's Neuron packages,
pulls the compile cache, starts scripts/train.py with torchrun on every host, and leaves model and run folder where
SageMaker collects them. The request replaces the container's own launcher (ContainerEntrypoint), so that the job
depends on no toolkit's version; what that launcher did and training needs is here.

SAGEMAKER_BASE_DIR stands in for /opt/ml, as in SageMaker's toolkit. WORKSHOP_PROCESSES: training processes a host.
WORKSHOP_REQUIREMENTS, WORKSHOP_CACHE_URL, WORKSHOP_TOKEN_SECRET: see helpers/sagemaker/job.py.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from helpers.credentials import without_credentials
from helpers.files import REPOSITORY, read_json, replace_unprintable
from helpers.neuron.process import CAUSE, SUMMARY
from helpers.neuron.run import check_visible_cores
from helpers.runs.machine import installed

PORT = 7777
PATIENCE = 900.0  # seconds until the names of all hosts can be looked up
EFA = Path("/sys/class/infiniband")  # is there where the instance has the adapter
LONGEST_FAILURE = 1024  # characters that DescribeTrainingJob shows
# The container's own; pip must leave them, and what they need, as they are
KEPT = ("torch", "torch-xla", "torch-neuronx", "neuronx-cc", "neuronx-distributed", "libneuronxla")


class Container:
    """The folders and settings that SageMaker gives to one host."""

    def __init__(self, base: Path):
        self.base = base
        config = base / "input" / "config"
        self.settings = read_json(config / "hyperparameters.json", {})
        resources = read_json(config / "resourceconfig.json", {})
        self.host = resources.get("current_host", "localhost")
        self.hosts = sorted(resources.get("hosts", [self.host]))
        self.network = resources.get("network_interface_name")
        self.run = base / "checkpoints" / "run"  # copied to S3 while the job runs, and back after an interruption

    @property
    def first(self) -> bool:
        """True on the host that logs and saves."""
        return self.host == self.hosts[0]

    def environment(self) -> dict[str, str]:
        """What training sees: SageMaker's variables that scripts/train.py reads, and the network of several hosts."""
        found = {"SM_MODEL_DIR": str(self.base / "model"), "PYTHONUNBUFFERED": "1"}
        if (data := self.base / "input" / "data" / "train").is_dir():
            found["SM_CHANNEL_TRAIN"] = str(data)
        if len(self.hosts) > 1:
            if self.network:
                found |= {"NCCL_SOCKET_IFNAME": self.network, "GLOO_SOCKET_IFNAME": self.network}
            if EFA.is_dir():  # as AWS Neuron asks for it
                found |= {"FI_PROVIDER": "efa", "FI_EFA_USE_DEVICE_RDMA": "1"}
        return found

    def command(self, start: list[str]) -> list[str]:
        """torchrun for this host; every host gives the same, but for its rank. start: what `way_to_start` gives."""
        processes = os.environ.get("WORKSHOP_PROCESSES", "1")
        torchrun = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={processes}"]
        torchrun += [f"--nnodes={len(self.hosts)}", f"--node_rank={self.hosts.index(self.host)}"]
        first = self.hosts[0] if len(self.hosts) > 1 else "127.0.0.1"
        torchrun += [f"--master_addr={first}", f"--master_port={os.environ.get('MASTER_PORT', PORT)}"]
        options = [part for name, value in self.settings.items() for part in (f"--{name}", str(value))]
        return [*torchrun, "scripts/train.py", *options, "--output_dir", str(self.run), *start]


def main() -> int:
    replace_unprintable()
    container = Container(Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml")))
    token = ""
    try:
        check_visible_cores(int(os.environ.get("WORKSHOP_PROCESSES", "1")))
        token = read_token(os.environ.get("WORKSHOP_TOKEN_SECRET"))
        install(os.environ.get("WORKSHOP_REQUIREMENTS"))
        if len(container.hosts) > 1:
            wait_for_hosts(container.hosts)
        with_cache("pull")
        code, last = train(container, token)
    except (RuntimeError, ValueError, OSError, subprocess.CalledProcessError) as error:
        code, last = 1, f"sagemaker_entry: {error}"
        print(last, file=sys.stderr)
    if container.first:
        with_cache("push")  # graphs of a run that failed later are as good
    if code:
        failure = container.base / "output" / "failure"
        failure.parent.mkdir(parents=True, exist_ok=True)
        failure.write_text(last[-LONGEST_FAILURE:], encoding="utf-8")
        return code
    if container.first:
        keep_run(container)
    return 0


def read_token(secret: str | None) -> str:
    """The text of a Secrets Manager secret, "" where none is named; a RuntimeError tells the name and the fix."""
    if not secret:
        return ""
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return boto3.client("secretsmanager").get_secret_value(SecretId=secret)["SecretString"].strip()
    except (BotoCoreError, ClientError) as error:
        code = error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
        fix = "create it, and allow the role secretsmanager:GetSecretValue on it"
        raise RuntimeError(f"secret {secret} can't be read ({code}): {fix}") from error


def install(requirements: str | None) -> None:
    """pip install -r, with the container's Neuron packages as constraints."""
    if not requirements:
        return
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        constraints.write("".join(f"{name}=={version}\n" for name, version in installed(KEPT).items()))
        constraints.flush()
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "-r", requirements, "-c", constraints.name], cwd=REPOSITORY, check=True)


def wait_for_hosts(hosts: list[str], patience: float = PATIENCE) -> None:
    """Return once every name can be looked up; a RuntimeError names one that can't."""
    ends = time.monotonic() + patience
    for host in hosts:
        while True:
            try:
                socket.getaddrinfo(host, None)
                break
            except socket.gaierror as error:
                if time.monotonic() > ends:
                    raise RuntimeError(
                        f"host {host} is not known after {patience:.0f} s: submit the job again"
                    ) from error
                time.sleep(1)


def with_cache(action: str) -> None:
    """Pull or push the compile cache, if the job names a place. Without it a run is slower: that is told, no more."""
    url = os.environ.get("WORKSHOP_CACHE_URL")
    if not url:
        return
    from helpers.neuron.compile_cache import CompileCache
    from helpers.store import TransferError

    try:
        cache = CompileCache()
        if action == "pull":
            cache.configure()
        print(f"compile cache, {action}: {getattr(cache, action)(url)}", flush=True)
    except (ValueError, TransferError, OSError) as error:
        print(f"compile cache, {action}: {error}", flush=True)


def way_to_start(container: Container) -> list[str]:
    """How training begins, as arguments of scripts/train.py: from what an interrupted run left, as far as that goes.

    It is told what happens. Optimum Neuron can't resume: there it is a new start from the checkpoint's weights.
    """
    from helpers.backends import detect
    from helpers.runs import Run

    method = container.settings.get("method", "")
    stage = Run(container.run, profile=None).stage(method)
    anew = ["--overwrite_output_dir", "True"]  # the run folder is this job's own
    if not stage.checkpoints.is_dir() or not (found := stage.last_checkpoint()):
        return anew
    name = Path(found).name
    if not detect(container.settings.get("backend")).fixed_shapes:
        print(f"Resuming from {name}: weights, optimizer, schedule, place in the data", flush=True)
        return ["--resume_from_checkpoint", found]
    if method == "dpo":
        told = "DPO's reference is the model before the first step, and Optimum Neuron can't resume"
        print(f"{name} is there, but {told}: training starts anew", flush=True)
        return anew
    print(f"Optimum Neuron can't resume: a new start from the weights of {name}", flush=True)
    return ["--start_from_checkpoint", found]


def train(container: Container, token: str) -> tuple[int, str]:
    """Run torchrun on this host: (exit code, the line that tells why it failed). No credential shows in the log."""
    command = container.command(way_to_start(container))
    environment = os.environ | container.environment() | ({"HF_TOKEN": token} if token else {})
    last, told, cause = "", "", ""
    with subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",  # a byte of the runtime's must not end the reading, and with it the training
    ) as process:
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        for line in process.stdout:
            line = shown(line.replace(token, "[token]") if token else line)
            print(line, end="", flush=True)
            last = line.strip() or last
            told = line.strip() if line.startswith("train.py: ") else told
            cause = line.strip() if CAUSE.search(line) and not SUMMARY.search(line) else cause
    code = process.returncode
    return (128 - code if code < 0 else code), told or cause or last


def shown(line: str) -> str:
    """The line without what looks like a credential, where the container has the detector."""
    try:
        return without_credentials(line)
    except ValueError:
        return line


def keep_run(container: Container) -> None:
    """The run folder without checkpoints and locks, where SageMaker collects it as output.tar.gz."""
    target = container.base / "output" / "data"
    ignored = shutil.ignore_patterns("checkpoints", ".locks")
    shutil.copytree(container.run, target, ignore=ignored, dirs_exist_ok=True)


if __name__ == "__main__":
    sys.exit(main())
