"""Notebook 08 in a kernel that is restarted while its job runs, and where an account is named."""

import time

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.notebook_kernel import Cells
from tests.sagemaker.test_job import JOB, make_role

pytestmark = pytest.mark.slow
SUBMIT, FOLLOW, CLEAN_UP = "arn = submit(submitted)", "described = follow_job(", "listed = clean_up("


def test_a_restarted_kernel_goes_on_with_the_same_job_to_the_end(tmp_path):
    with Cells("08", tmp_path) as kernel:
        said = kernel.run("find_spec", SUBMIT)
        assert "rehearsed on this machine, not on AWS" in said and "was started" in said
        kernel.begin(kernel.sources[kernel.id_with(FOLLOW)])
        time.sleep(4)
        kernel.interrupt()
        assert "KeyboardInterrupt" in "".join(kernel.finish()[1]), "the stop button stops following, not the job"
    with Cells("08", tmp_path) as kernel:
        said = kernel.run("find_spec", SUBMIT)
        assert "exists already, it is InProgress: nothing was started" in said
        said = kernel.run(FOLLOW, "assert described")
    assert "step 4/4" in said and "billable seconds of 1 × ml.trn1.2xlarge" in said and "deleted: " in said
    assert len([path for path in tmp_path.iterdir() if not path.is_symlink()]) == 1, "one run"


@pytest.fixture
def aws(monkeypatch):
    """An account that is named, and moto where AWS would be: a job has completed as soon as it is submitted."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.get_host_and_port()[1]}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "mine-alone")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    boto3.client("s3").create_bucket(Bucket="class")
    make_role()
    monkeypatch.setenv("WORKSHOP_JOBS_ROLE", JOB.role)
    monkeypatch.setenv("WORKSHOP_JOBS_URL", JOB.output)
    yield
    server.stop()


def test_with_an_account_the_same_cells_submit_the_trainium_job_and_delete_nothing(aws, tmp_path):
    with Cells("08", tmp_path) as kernel:
        said = kernel.run("find_spec", "print(cost_text(described))")
        assert "on AWS, us-east-1: s3://class/jobs" in said and "rehearsed" not in said
        assert "mine-alone" not in said, "no key is shown"
        assert "would delete: s3://class/jobs/code/ (1 file," in kernel.run(CLEAN_UP, "left = clean_up(")
    (name,) = [
        each["TrainingJobName"] for each in boto3.client("sagemaker").list_training_jobs()["TrainingJobSummaries"]
    ]
    described = boto3.client("sagemaker").describe_training_job(TrainingJobName=name)
    assert described["HyperParameters"]["model"] == "Qwen/Qwen3-0.6B"
    assert described["HyperParameters"]["tensor_parallel_size"] == "2"
    assert boto3.client("s3").list_objects_v2(Bucket="class")["KeyCount"] == 1, "the code is still there"
