"""What jobs leave in S3, and what has the project's tag: listed with its size, deleted only once that is confirmed."""

from helpers.neuron.compile_cache.text import size_text
from helpers.sagemaker.aws_errors import JobError, client, told
from helpers.sagemaker.follow import ENDED
from helpers.sagemaker.job import TrainingJob
from helpers.sagemaker.service import PROJECT_TAG
from helpers.sagemaker.submission import find
from helpers.store import S3_URL

BATCH = 1000  # keys that S3 deletes in one call
STAYS = (
    "Not deleted, for it can't be or costs next to nothing: the job stays in SageMaker's list, its log in CloudWatch. "
    "In a bucket that keeps versions the old ones stay until its lifecycle rule ends them."
)
UNDER_WAY = ("InProgress", "Stopping")
# What serves a model, in the order in which it can be deleted
SERVING = ("Endpoint", "EndpointConfig", "Model")
SNAKE = {"Endpoint": "endpoint", "EndpointConfig": "endpoint_config", "Model": "model"}


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
        print(f"{'deleted' if confirm else 'would delete'}: {url}/ ({files_text(len(keys))}, {size_text(found[url])})")
        if confirm:
            delete(store, url, list(keys))
    print(STAYS if confirm else "Nothing was deleted: confirm=True deletes what is listed.")
    return found


def clean_up_tagged(region: str, cache_url: str | None = None, confirm: bool = False) -> dict[str, int | None]:
    """List everything in a region that has the project's tag; with confirm=True delete it.

    Endpoints, endpoint configurations, models, and what ended training jobs left in S3: {what: bytes, None without a
    size}. cache_url: the compile cache too. The tag is that of all who use this workshop in the account, so read the
    list first. A JobError while a training job with the tag still runs. For whoever manages the account: the policies
    of `role` do not allow it.
    """
    service, store = client("sagemaker", region), client("s3", region)
    urls = [*places_of_tagged_jobs(service), *([cache_url.rstrip("/")] if cache_url else [])]
    keys = {url: objects_under(store, url) for url in urls if bucket_is_there(store, url)}
    serving = [(kind, name) for kind in SERVING for name in tagged(service, kind)]
    found = {f"{kind} {name}": None for kind, name in serving}
    found |= {f"{url}/": sum(sizes.values()) for url, sizes in keys.items() if sizes}
    for what, size in found.items():
        print(f"{'deleting' if confirm else 'would delete'}: {what}{'' if size is None else f' ({size_text(size)})'}")
    if confirm:
        for kind, name in serving:
            with told(f"Delete{kind} {name}"):
                getattr(service, f"delete_{SNAKE[kind]}")(**{f"{kind}Name": name})
        for url, sizes in keys.items():
            delete(store, url, list(sizes))
    print(STAYS if confirm else "Nothing was deleted: confirm=True deletes what is listed.")
    return found


def files_text(number: int) -> str:
    """So many files, in words."""
    return f"{number} file{'' if number == 1 else 's'}"


def tagged(service, kind: str) -> list[str]:
    """The names of the endpoints, models, … that have the project's tag."""
    with told(f"List{kind}s"):
        pages = service.get_paginator(f"list_{SNAKE[kind]}s").paginate()
        listed = [each for page in pages for each in page[f"{kind}s"]]
    return [each[f"{kind}Name"] for each in listed if has_the_tag(service, each[f"{kind}Arn"])]


def has_the_tag(service, arn: str) -> bool:
    """True for what this workshop made."""
    with told(f"ListTags {arn}"):
        return any(PROJECT_TAG in page["Tags"] for page in service.get_paginator("list_tags").paginate(ResourceArn=arn))


def places_of_tagged_jobs(service) -> list[str]:
    """Where the training jobs that have the project's tag left what they made; a JobError if one still runs."""
    with told("ListTrainingJobs"):  # Search would learn of a job that has just begun only later
        states = [service.get_paginator("list_training_jobs").paginate(StatusEquals=state) for state in UNDER_WAY]
        running = [each for pages in states for page in pages for each in page["TrainingJobSummaries"]]
    for each in running:
        if has_the_tag(service, each["TrainingJobArn"]):
            state = each["TrainingJobStatus"]
            raise JobError(f"{each['TrainingJobName']} is {state}: wait until it ends, or stop_job it first")
    only = [{"Name": f"Tags.{PROJECT_TAG['Key']}", "Operator": "Equals", "Value": PROJECT_TAG["Value"]}]
    with told("Search for training jobs"):
        pages = service.get_paginator("search").paginate(Resource="TrainingJob", SearchExpression={"Filters": only})
        jobs = [each["TrainingJob"] for page in pages for each in page["Results"]]
    return [f"{job['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{job['TrainingJobName']}" for job in jobs]


def bucket_is_there(store, url: str) -> bool:
    """False where the bucket is gone: jobs of an earlier class stay in SageMaker's list for ever."""
    from botocore.exceptions import ClientError

    with told(f"HeadBucket {url}"):
        try:
            store.head_bucket(Bucket=S3_URL.fullmatch(url)["bucket"])
        except ClientError as error:
            if error.response["Error"]["Code"] == "404":
                return False
            raise
    return True


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
