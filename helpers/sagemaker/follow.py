"""Follow a training job by its name alone, so that a restarted kernel goes on: progress, cost so far, why it failed."""

import re
import time
from datetime import UTC, datetime

from helpers.credentials import without_credentials
from helpers.neuron.run import step_records
from helpers.runs.machine import clock
from helpers.runs.progress import Pace
from helpers.sagemaker.aws_errors import JobError, client, told
from helpers.sagemaker.catalogue import INSTANCES, PRICING_PAGE
from helpers.sagemaker.submission import find

LOGS = "/aws/sagemaker/TrainingJobs"
ENDED = ("Completed", "Failed", "Stopped")
QUOTA = 'ask for more in Service Quotas, Amazon SageMaker, "<instance type> for training job usage"'
LONGEST = 100  # characters of a line of the log in a line of progress
GO_ON = "no model is saved; a job with another name and go_on_from= continues from its last checkpoint"
# What ended a job that did not fail
STOPPED = {
    "MaxRuntimeExceeded": f"was stopped at its max_runtime: {GO_ON}",
    "MaxWaitTimeExceeded": f"was stopped at its max_wait: {GO_ON}",
    "Stopped": f"was stopped before its end: {GO_ON}",
}
# What a failed job says of itself → what happened, and the fix. The first that fits, counts.
REASONS = (
    (r"ResourceLimitExceeded|service limit|quota", "the quota is used up or 0", QUOTA),
    (r"CapacityError|insufficient.*capacity", "no such instance was free", "try later, or in another region"),
    (
        r"CannotPull|image.*(not exist|not found|denied)|\bECR\b",
        "the container was not to be had",
        "check image and region",
    ),
    (
        r"cannot assume|could not assume|AssumeRole",
        "the role can't be assumed",
        "let sagemaker.amazonaws.com assume it",
    ),
    (
        r"F137|forcibly killed|neuronx-cc.*(killed|SIGKILL)",
        "the compiler was killed",
        "take a larger instance or a shorter max_length",
    ),
    (
        r"RESOURCE_EXHAUSTED|out of memory|failed to allocate|\bOOM\b",
        "memory ran out",
        "take a smaller batch or max_length, or a larger tensor_parallel_size",
    ),
    (r"AccessDenied|not authorized", "the role lacks a permission", "let it read and write the output bucket"),
    (r"No S3 objects|NoSuchKey|S3 key.*not", "the data is not where the request says", "submit again, which sends it"),
)


def reason_of(text: str) -> str:
    """Why a job failed, in one line with the fix; `text` is its FailureReason, and the end of its log."""
    if said := re.search(r"train\.py: [^\n]+", text):
        return said[0].strip()
    for pattern, what, fix in REASONS:
        if re.search(pattern, text, re.IGNORECASE):
            return f"{what}: {fix}"
    return f"unknown: {' '.join(text.split())[:300] or 'no reason was given'}; read the log"


def price_of(job: dict, usd_per_hour: float | None = None) -> float | None:
    """US dollars an hour of one instance of a described job: as given, else the table's; None if neither has it."""
    known = INSTANCES.get(job["ResourceConfig"]["InstanceType"])
    return usd_per_hour if usd_per_hour is not None else known and known.usd_per_hour


def dollars_so_far(job: dict, usd_per_hour: float | None = None, now: datetime | None = None) -> float | None:
    """What a described job has cost: billed seconds, else since its training started; None without a price."""
    price = price_of(job, usd_per_hour)
    if price is None:
        return None
    seconds = job.get("BillableTimeInSeconds")
    if seconds is None:
        started = job.get("TrainingStartTime")
        end = job.get("TrainingEndTime") or now or datetime.now(UTC)
        seconds = (end - started).total_seconds() if started else 0.0
    return job["ResourceConfig"]["InstanceCount"] * price * seconds / 3600


def cost_text(job: dict, usd_per_hour: float | None = None) -> str:
    """What a described job has cost, and how that is reckoned. Storage and requests are not in it."""
    used, seconds, price = job["ResourceConfig"], job.get("BillableTimeInSeconds"), price_of(job, usd_per_hour)
    billed = f"{seconds} billable seconds" if seconds is not None else "not billed yet, the time so far"
    reckoned = f"{billed} of {used['InstanceCount']} × {used['InstanceType']}"
    if price is None:
        return f"{reckoned}: no price is known, read it at {PRICING_PAGE}, give usd_per_hour="
    return f"{reckoned} at ${price:.2f} an hour: ${dollars_so_far(job, price):.2f}"


class Progress:
    """What the log has shown so far. `hear` takes (time in seconds, line).

    settings: the job's hyperparameters. Without max_steps the number of steps follows from the epochs.
    """

    def __init__(self, settings: dict | None = None):
        settings = settings or {}
        self.steps, self.epochs = int(settings.get("max_steps") or 0), float(settings.get("num_train_epochs") or 3)
        self.record, self.pace, self.at, self.tail = None, None, 0.0, []

    def hear(self, at: float, line: str) -> None:
        """A line of the log; a JSON record of a step is progress."""
        self.tail = [*self.tail, line][-30:]
        for record in step_records(line):
            self.record, self.at, step = record, at, record["step"]
            if self.pace is None or step < self.pace.done:  # a job that was restarted goes back to its checkpoint
                self.pace = Pace("step", step, self.all_steps, now=lambda: self.at)
            self.pace.total = self.all_steps
            self.pace.reach(step)

    @property
    def all_steps(self) -> int:
        """How many steps the job takes; 0 where that is not known yet."""
        epoch = (self.record or {}).get("epoch")
        if self.steps > 0 or not epoch:
            return max(0, self.steps)
        return round(self.record["step"] / epoch * self.epochs)

    def __str__(self) -> str:
        if self.record is None:
            last = next((line.strip() for line in reversed(self.tail) if line.strip()), "")
            return f"no step yet, the log says: {without_credentials(last)[:LONGEST]}" if last else "no step yet"
        steps = self.all_steps
        of = f"/{steps}" if steps else ""
        text = f"step {self.record['step']}{of}, loss {self.record['loss']:.3f}"
        text += f", {self.record['graphs']} graphs compiled" if "graphs" in self.record else ""
        left = self.pace.left()
        return text + (f", {clock(left)} left" if left else "")


def events(logs, name: str, tokens: dict[str, str]):
    """(seconds, line) of what all hosts wrote since the last call; `tokens` keeps the place in each stream."""
    with told(f"log of {name}"):
        try:
            streams = logs.describe_log_streams(logGroupName=LOGS, logStreamNamePrefix=f"{name}/")["logStreams"]
        except logs.exceptions.ResourceNotFoundException:  # made when the first container writes
            return
        for stream in sorted(each["logStreamName"] for each in streams):
            while True:
                place = {"nextToken": tokens[stream]} if stream in tokens else {}
                got = logs.get_log_events(logGroupName=LOGS, logStreamName=stream, startFromHead=True, **place)
                yield from ((event["timestamp"] / 1000, event["message"]) for event in got["events"])
                unchanged = tokens.get(stream) == got["nextForwardToken"]
                tokens[stream] = got["nextForwardToken"]
                if unchanged or not got["events"]:
                    break


class Line:
    """A line of progress: written again while only the time passes, and a new one when something happened."""

    def __init__(self):
        self.happened, self.width = None, 0

    def show(self, happened: str, passing: str) -> None:
        """happened: what makes a new line. passing: what changes all the time, such as the seconds."""
        if self.happened not in (None, happened):
            self.end()
        self.happened, text = happened, f"{happened}{passing}"
        print(f"\r{text:<{self.width}}", end="", flush=True)
        self.width = len(text)

    def end(self) -> None:
        """The next thing that is printed begins a line."""
        if self.width:
            print(flush=True)
        self.width = 0


def follow_job(name: str, region: str, usd_per_hour: float | None = None, every: float = 15.0) -> dict:
    """Print progress until the job ends; returns its description. A JobError says why it failed, with the fix."""
    service, logs, tokens, line = client("sagemaker", region), client("logs", region), {}, Line()
    progress = None
    try:
        while True:
            if (job := find(service, name)) is None:
                raise JobError(f"{name}: there is no such job in {region}; check name and region")
            progress = progress or Progress(job.get("HyperParameters"))
            for at, said in events(logs, name, tokens):
                progress.hear(at, said)
            dollars = dollars_so_far(job, usd_per_hour)
            cost = f", ${dollars:.2f} so far" if dollars is not None else ""
            happened = f"{name}: {job.get('SecondaryStatus', job['TrainingJobStatus'])}, {progress}"
            line.show(happened, f"{cost}, {clock(age_of(job))} since it was submitted")
            if job["TrainingJobStatus"] in ENDED:
                break
            time.sleep(every)
    finally:
        line.end()
    if job["TrainingJobStatus"] == "Failed":
        raise JobError(f"{name} failed: {reason_of(chr(10).join([job.get('FailureReason', ''), *progress.tail]))}")
    if stopped := STOPPED.get(job.get("SecondaryStatus")):
        print(f"{name} {stopped}")
    return job


def age_of(job: dict) -> float:
    """Seconds since a described job was submitted; until its end, if it has one."""
    began, ends = job.get("CreationTime"), job.get("TrainingEndTime") or datetime.now(UTC)
    return max(0.0, (ends - began).total_seconds()) if began else 0.0
