"""What jobs leave in S3: listed with its size, and deleted only once that is confirmed."""

from helpers.neuron.compile_cache.layout import size_text
from helpers.neuron.compile_cache.store import S3_URL
from helpers.sagemaker.aws_errors import JobError, client, told
from helpers.sagemaker.follow import ENDED
from helpers.sagemaker.job import TrainingJob
from helpers.sagemaker.submission import find

BATCH = 1000  # keys that S3 deletes in one call
STAYS = (
    "Not deleted, for it can't be or costs next to nothing: the job stays in SageMaker's list, its log in CloudWatch. "
    "In a bucket that keeps versions the old ones stay until its lifecycle rule ends them."
)


def clean_up(job: TrainingJob, shared: bool = False, cache: bool = False, confirm: bool = False) -> dict[str, int]:
    """List what the job left in S3 (checkpoints, results), {place: bytes}; with confirm=True delete it.

    shared: code and pairs too, which other jobs of the same `output` use. cache: the compile cache of `cache_url` too.
    A JobError while a job that needs it still runs.
    """
    refuse_running(job, shared)
    store, found = client("s3", job.region), {}
    for url in places(job, shared, cache):
        keys = objects_under(store, url)
        found[url] = sum(keys.values())
        print(f"{'deleted' if confirm else 'would delete'}: {url}/ ({len(keys)} files, {size_text(found[url])})")
        if confirm:
            delete(store, url, list(keys))
    print(STAYS if confirm else "Nothing was deleted: confirm=True deletes what is listed.")
    return found


def places(job: TrainingJob, shared: bool, cache: bool) -> list[str]:
    """The prefixes that are meant, each without the slash at its end."""
    output = job.output.rstrip("/")
    meant = [job.root, *([f"{output}/code", f"{output}/data"] if shared else [])]
    if cache and not job.cache_url:
        raise ValueError("cache=True: the job has no cache_url; leave it out")
    return [*meant, *([job.cache_url.rstrip("/")] if cache else [])]


def refuse_running(job: TrainingJob, shared: bool) -> None:
    """No job is running that would miss what is deleted."""
    service = client("sagemaker", job.region)
    described = find(service, job.name)
    if described and described["TrainingJobStatus"] not in ENDED:
        raise JobError(f"{job.name} is {described['TrainingJobStatus']}: wait until it ends, or stop_job it first")
    if not shared:
        return
    with told("ListTrainingJobs"):
        pages = service.get_paginator("list_training_jobs").paginate(StatusEquals="InProgress")
        running = [each["TrainingJobName"] for page in pages for each in page["TrainingJobSummaries"]]
    for name in running:
        described = find(service, name)
        if described and described["OutputDataConfig"]["S3OutputPath"].rstrip("/") == job.output.rstrip("/"):
            raise JobError(f"{name} is running and uses this code and data: wait until it ends, or leave shared out")


def objects_under(store, url: str) -> dict[str, int]:
    """{key: bytes} under a prefix and its slash: a job's name may be the beginning of another's."""
    parts = S3_URL.fullmatch(url)
    if not (parts["prefix"] or "").strip("/"):
        raise ValueError(f"{url} is a whole bucket: give a prefix in it, only that is ever deleted")
    with told(f"ListObjects {url}"):
        pages = store.get_paginator("list_objects_v2").paginate(Bucket=parts["bucket"], Prefix=f"{parts['prefix']}/")
        return {each["Key"]: each["Size"] for page in pages for each in page.get("Contents", ())}


def delete(store, url: str, keys: list[str]) -> None:
    """Delete these objects; a JobError names the first that S3 kept."""
    bucket = S3_URL.fullmatch(url)["bucket"]
    for start in range(0, len(keys), BATCH):
        asked = {"Objects": [{"Key": key} for key in keys[start : start + BATCH]], "Quiet": True}
        with told(f"DeleteObjects {url}"):
            errors = store.delete_objects(Bucket=bucket, Delete=asked).get("Errors", ())
        for error in errors:
            raise JobError(f"{error['Key']} was not deleted ({error['Code']}): allow s3:DeleteObject, call again")
