"""The policies: what a linter that knows every action of AWS says of them, and that they name nothing else."""

import json
from dataclasses import replace

import parliament
import pytest

from helpers.sagemaker import role
from tests.sagemaker.test_job import JOB

KEY = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
FULL = replace(
    JOB,
    token_secret="hub",
    kms_key=KEY,
    cache_url="s3://class/neuron-cache",
    subnets=("subnet-1",),
    security_groups=("sg-1",),
)


def actions(document: dict) -> set[str]:
    listed = (statement["Action"] for statement in document["Statement"])
    return {name for each in listed for name in ([each] if isinstance(each, str) else each)}


@pytest.mark.parametrize("made", [role.execution_policy, role.caller_policy])
@pytest.mark.parametrize("job", [JOB, FULL], ids=["least", "everything"])
def test_the_linter_has_no_objection(made, job):
    found = parliament.analyze_policy_string(role.as_json(made(job))).findings
    assert not found, [str(each) for each in found]


def test_the_linter_would_see_a_wrong_action_and_a_wrong_resource():
    wrong = role.policy([role.allow("A", "s3:GetObjct", "*"), role.allow("B", "s3:GetObject", "arn:aws:sqs:::x")])
    issues = {each.issue for each in parliament.analyze_policy_string(json.dumps(wrong)).findings}
    assert issues == {"UNKNOWN_ACTION", "RESOURCE_MISMATCH"}


def test_the_role_reaches_its_places_and_no_others():
    made = role.execution_policy(JOB)
    on_s3 = [each for each in made["Statement"] if "s3:" in str(each["Action"])]
    assert {each["Resource"] for each in on_s3} == {"arn:aws:s3:::class", "arn:aws:s3:::class/jobs/*"}
    assert on_s3[0]["Condition"] == {"StringLike": {"s3:prefix": ["jobs", "jobs/*"]}}
    open_ones = {each["Sid"] for each in made["Statement"] if each["Resource"] == "*"}
    assert open_ones == {"Metrics", "SignInToTheRegistry"}, "AWS takes no narrower resource for these two"
    image = "arn:aws:ecr:us-east-1:763104351884:repository/pytorch-training-neuronx"
    assert image in [each["Resource"] for each in made["Statement"]]
    assert not {name for name in actions(made) if name.startswith(("iam:", "sagemaker:", "kms:", "secretsmanager:"))}
    assert not {name for name in actions(made) if "Delete" in name or "*" in name}


def test_what_a_job_asks_for_besides_is_allowed_for_that_thing_only():
    made = {each["Sid"]: each for each in role.execution_policy(FULL)["Statement"]}
    assert made["ReadTheSecret"]["Resource"] == "arn:aws:secretsmanager:us-east-1:123456789012:secret:hub-??????"
    assert made["UseTheKey"]["Resource"] == made["LendTheKeyToTheVolume"]["Resource"] == KEY
    assert "arn:aws:s3:::class/neuron-cache/*" in [each["Resource"] for each in made.values()]
    with pytest.raises(ValueError, match="a policy needs the ARN of the key"):
        role.execution_policy(replace(JOB, kms_key="alias/k"))


def test_only_sagemaker_takes_the_role_on_and_only_this_role_is_passed():
    (trusted,) = role.trust_policy(JOB)["Statement"]
    assert trusted["Principal"] == {"Service": "sagemaker.amazonaws.com"} and trusted["Action"] == "sts:AssumeRole"
    assert trusted["Condition"]["StringEquals"] == {"aws:SourceAccount": "123456789012"}
    (passed,) = (each for each in role.caller_policy(JOB)["Statement"] if each["Action"] == "iam:PassRole")
    assert passed["Resource"] == JOB.role and "sagemaker.amazonaws.com" in str(passed["Condition"])


def test_the_commands_name_role_and_quota():
    assert "--role-name workshop " in role.how_to_create(JOB)
    assert "ml.trn1.2xlarge for training job usage" in role.how_to_ask_for_quota(JOB)
    assert "for spot training job usage" in role.how_to_ask_for_quota(replace(JOB, spot=True, max_wait=7200))
