"""The request of a training job, and what is refused before anything is created."""

import json
from dataclasses import replace

import boto3
import pytest

from helpers.credentials import kind_of_credential, refuse_credentials, without_credentials
from helpers.data import load_preferences
from helpers.sagemaker.catalogue import INSTANCES, image_uri
from helpers.sagemaker.job import START, TrainingJob, request_of
from helpers.sagemaker.package import pairs_file
from helpers.sagemaker.role import trust_policy
from helpers.sagemaker.service import service_model, validate
from helpers.sagemaker.volume import LEAST, PACKAGES, UNKNOWN, kept_at_once, needed_gb
from tests.planted import PLANTED

JOB = TrainingJob(
    name="orpo-1",
    role="arn:aws:iam::123456789012:role/workshop",
    region="us-east-1",
    output="s3://class/jobs",
    hyperparameters={"method": "orpo", "model": "Qwen/Qwen3-0.6B", "tensor_parallel_size": 2, "max_steps": 100},
)


def make_role(trust: dict | None = None) -> None:
    """JOB's role, in moto's IAM."""
    document = json.dumps(trust or trust_policy(JOB))
    boto3.client("iam", region_name="us-east-1").create_role(RoleName="workshop", AssumeRolePolicyDocument=document)


def test_a_sound_job_is_the_documented_request():
    JOB.check()
    made = request_of(JOB, "s3://class/jobs/code/1", "s3://class/jobs/data/2")
    assert made["AlgorithmSpecification"]["TrainingImage"] == (
        "763104351884.dkr.ecr.us-east-1.amazonaws.com/"
        "pytorch-training-neuronx:2.8.0-neuronx-py311-sdk2.26.1-ubuntu22.04"
    )
    assert made["HyperParameters"]["max_steps"] == "100", "SageMaker takes strings"
    assert [each["ChannelName"] for each in made["InputDataConfig"]] == ["code", "train"]
    assert made["Environment"]["WORKSHOP_PROCESSES"] == "2" and len(START) <= 256
    assert "VpcConfig" not in made and "KeepAlivePeriodInSeconds" not in made["ResourceConfig"]


def test_everything_that_can_be_asked_for_is_in_the_request():
    asked = replace(JOB, spot=True, max_wait=7200, kms_key="alias/k", subnets=("subnet-1",), security_groups=("sg-1",))
    asked = replace(asked, tags={"team": "a"}, token_secret="hub", cache_url="s3://class/cache", instance_count=2)
    asked.check()
    made = request_of(asked, "s3://class/code", None)
    assert made["EnableManagedSpotTraining"] and made["StoppingCondition"]["MaxWaitTimeInSeconds"] == 7200
    assert made["OutputDataConfig"]["KmsKeyId"] == made["ResourceConfig"]["VolumeKmsKeyId"] == "alias/k"
    assert made["VpcConfig"] == {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
    assert {"Key": "team", "Value": "a"} in made["Tags"] and made["ResourceConfig"]["InstanceCount"] == 2
    assert made["Environment"]["WORKSHOP_TOKEN_SECRET"] == "hub"
    assert made["Environment"]["WORKSHOP_CACHE_URL"] == "s3://class/cache"
    warm = request_of(replace(JOB, keep_alive=600), "s3://class/code", None)
    assert warm["ResourceConfig"]["KeepAlivePeriodInSeconds"] == 600


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": "a" * 64}, "has 64 characters: take at most 63"),
        ({"name": "my_job"}, "letters, digits and single hyphens"),
        ({"role": "workshop"}, "arn:aws:iam::<account>:role/<name>"),
        ({"region": "mars-1"}, "region mars-1: no address of the Neuron container"),
        ({"instance_type": "ml.trn9.xlarge"}, "unknown to SageMaker training: Trainium is ml.trn1.2xlarge"),
        ({"output": "class/jobs"}, "output 'class/jobs': give s3://bucket/prefix"),
        ({"hyperparameters": {"method": "orpo", "tensor_parallel_size": 3}}, "does not divide the 2 cores"),
        ({"hyperparameters": {"method": "orpo", "tensor_parallel_size": 0}}, "does not divide the 2 cores"),
        ({"hyperparameters": {"method": "rlhf"}}, "method: is 'rlhf'; choose sft, orpo, dpo"),
        ({"instance_count": 0}, "instance_count is 0"),
        ({"volume_gb": 0}, "volume_gb is 0"),
        ({"max_runtime": "1h"}, "max_runtime is '1h': give a whole number of seconds"),
        ({"instance_count": 1.5}, "instance_count is 1.5: give a whole number"),
        ({"go_on_from": "no name"}, "go_on_from 'no name': give the name of a job"),
        ({"usd_per_hour": -1.0}, "usd_per_hour is -1.0: give a price"),
        ({"requirements": "nowhere.txt"}, "requirements 'nowhere.txt': the checkout has no such file"),
        ({"token_secret": "arn:aws:secretsmanager:us-east-1:123456789012:secret:hub-1"}, "give the secret's name"),
        ({"tags": {"project": "mine"}}, "tags, project: every job has it, and clean_up_tagged looks for it"),
        ({"tags": {"AWS:a": "b"}}, "names that begin with aws: are Amazon's own"),
        ({"environment": {"a b": "1"}}, "environment, a b: use letters, digits and underscores"),
        ({"environment": {"WORKSHOP_CACHE_URL": "s3://a/b"}}, "the job sets it: leave it out, give cache_url="),
        ({"spot": True}, "max_wait is None: spot needs at least max_runtime, 3600 seconds"),
        ({"max_wait": 9000}, "max_wait is for spot"),
        ({"keep_alive": 4000}, "give 0 to 3600 seconds"),
        ({"subnets": ("subnet-1",)}, "give both or neither"),
        ({"data": "nowhere.jsonl"}, "no preference data at nowhere.jsonl"),
        ({"environment": {"A": "x" * 513}}, "environment, A: longer than 512"),
        ({"environment": {"HF_TOKEN": "anything"}}, "environment, HF_TOKEN: looks like a credential by its name"),
    ],
)
def test_what_would_not_work_is_one_line_before_anything_is_created(change, says):
    with pytest.raises((ValueError, FileNotFoundError)) as told:
        replace(JOB, **change).check()
    assert says in str(told.value) and "\n" not in str(told.value)


def test_a_row_that_fails_validation_is_named(tmp_path):
    file = tmp_path / "mine.jsonl"
    file.write_text(json.dumps({"prompt": "a?", "chosen": " ", "rejected": "b"}) + "\n")
    with pytest.raises(ValueError, match="row 0, chosen: the response is empty"):
        replace(JOB, data=file).check()


def test_a_file_with_fewer_pairs_than_a_batch_is_told(tmp_path):
    file = tmp_path / "mine.jsonl"
    file.write_text(json.dumps({"prompt": "a?", "chosen": "c", "rejected": "b"}) + "\n")
    many = JOB.hyperparameters | {"per_device_train_batch_size": 4}
    with pytest.raises(ValueError, match="1 pairs do not fill one batch of 4: lower per_device_train_batch_size"):
        replace(JOB, data=file, split_by=None, hyperparameters=many).check()


def test_the_job_trains_on_what_the_notebooks_train_on_and_on_none_that_they_hold_out(tmp_path):
    file = tmp_path / "mine.jsonl"
    rows = [{"prompt": f"What does call {i} do?", "chosen": f"It lists {i}.", "rejected": "No."} for i in range(80)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    job = replace(JOB, data=file)
    sent = [json.loads(line) for line in pairs_file(job).decode().splitlines()]
    held = load_preferences(file, "heldout", split_by="prompt").to_list()
    assert held and sent == load_preferences(file, "train", split_by="prompt").to_list()
    assert not [row for row in sent if row in held]
    assert len(replace(job, split_by=None).pairs()) == 80


@pytest.mark.parametrize("where", ["hyperparameters", "environment", "tags"])
@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_credential_is_refused_and_not_shown(kind, where):
    planted = PLANTED[kind]
    with pytest.raises(ValueError) as told:
        replace(JOB, **{where: getattr(JOB, where) | {"note": f"see {planted} here"}}).check()
    assert f"{where}, note: looks like" in str(told.value) and planted not in str(told.value)
    with pytest.raises(ValueError) as told:
        refuse_credentials(where, {planted: "1"})
    assert planted not in str(told.value)


def test_a_secret_is_given_by_name_only():
    with pytest.raises(ValueError, match="Secrets Manager"):
        replace(JOB, token_secret=PLANTED["Hugging Face token"]).check()


def test_plain_settings_look_like_no_credential():
    for text in ("Qwen/Qwen3-0.6B", "5e-05", "s3://class/jobs/data/3f2a9c", "What does PutMetricStream do?", JOB.role):
        assert kind_of_credential(text) is None, text
    refuse_credentials("hyperparameters", {"max_prompt_tokens": 12, "eos_token": "", "beta": 0.1})


@pytest.mark.parametrize("kind", PLANTED)
def test_a_credential_is_taken_out_of_a_text_and_the_rest_stays(kind):
    planted = PLANTED[kind]
    left = without_credentials(f"step 1\nkey = '{planted}', see 5e-05\nstep 2 of 3")
    assert planted not in left and left.startswith("step 1\nkey = '[") and f"[{kind}]" in left
    assert kind == "Private Key" or left.endswith(", see 5e-05\nstep 2 of 3"), "all that follows an open key goes too"
    whole = without_credentials(f"{PLANTED['Private Key']}\nMIIabc\n-----END RSA PRIVATE KEY-----\nstep 2")
    assert whole == "[Private Key]\nstep 2"


def test_the_volume_is_what_the_model_and_its_checkpoints_need():
    full = {"model": "Qwen/Qwen3-0.6B", "max_steps": 1000, "save_steps": 100}
    weights, checkpoint = 0.596 * 2, 0.596 * 16  # GB: bf16; twice the weights, two moments and a master weight
    gb, reckoned = needed_gb(full)
    assert gb == pytest.approx(1.2 * (PACKAGES + weights + 10 * checkpoint + 2 * weights), abs=1.5)
    assert "10 checkpoints 95." in reckoned
    assert needed_gb(full | {"save_total_limit": 2})[0] < gb / 2 and kept_at_once(full | {"save_total_limit": 2}) == 3
    assert needed_gb(full | {"lora_rank": 16})[0] == LEAST < needed_gb(full | {"model": "Qwen/Qwen3-8B"})[0]
    assert needed_gb({"model": "nobody/knows"})[0] == UNKNOWN and "give volume_gb=" in needed_gb({"model": "a/b"})[1]
    asked = request_of(replace(JOB, hyperparameters=JOB.hyperparameters | full), "s3://class/code", None)
    assert asked["ResourceConfig"]["VolumeSizeInGB"] == gb
    given = request_of(replace(JOB, volume_gb=500), "s3://class/code", None)
    assert given["ResourceConfig"]["VolumeSizeInGB"] == 500


def test_what_it_costs_at_most_has_a_source_or_asks_for_a_price():
    assert JOB.most_it_costs()[0] == pytest.approx(1.54) and "2026" in JOB.most_it_costs()[1]
    two = replace(JOB, instance_count=2, max_runtime=1800, usd_per_hour=10.0)
    assert two.most_it_costs()[0] == pytest.approx(10.0) and "given by you" in two.most_it_costs()[1]
    most, reason = replace(JOB, instance_type="ml.trn2.48xlarge").most_it_costs()
    assert most is None and "give usd_per_hour=" in reason


def test_the_instances_are_botocores_and_every_registry_is_an_account():
    assert set(INSTANCES) <= set(service_model().shape_for("TrainingInstanceType").enum)
    for region in ("eu-west-1", "ap-southeast-4"):
        assert image_uri(region).split(".")[0].isdigit() and f".{region}." in image_uri(region)


def test_what_botocore_refuses_is_one_line():
    with pytest.raises(ValueError, match="CreateTrainingJob would be refused"):
        validate({"TrainingJobName": "a"})
