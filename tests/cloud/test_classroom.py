"""The classroom's template: linted, created and deleted on this machine, and compared with what it repeats."""

import ast
import base64
import json
import os
import re
import shlex
import subprocess
import time
from dataclasses import fields

import boto3
import parliament
import pytest
from cfnlint.api import ManualArgs, lint_file
from moto import mock_aws
from moto.backends import get_backend

from helpers.files import REPOSITORY
from helpers.sagemaker import role
from helpers.sagemaker.catalogue import ACCOUNTS, INSTANCES, SPACES_PER_HOUR, SPACES_SOURCE
from helpers.sagemaker.classroom import Classroom, cost_table, spaces_table
from helpers.sagemaker.job import PROJECT_TAG, TrainingJob
from tests.cloud import standins
from tests.cloud.standins import KEPT, REGION, RUNNING, TEMPLATE, expanded

TEXT = TEMPLATE.read_text(encoding="utf-8")
SCRIPT = REPOSITORY / "scripts" / "studio_lifecycle.sh"
PAGE = (REPOSITORY / "docs" / "classroom.md").read_text(encoding="utf-8")
PEOPLE = [f"attendee{number:02}" for number in range(1, 21)]
STACK = "orpo-classroom"
CLONE = "https://example.com/you/orpo-workshop.git"
GIVEN = {"Repository": CLONE, "Email": "you@example.com", "VpcId": "vpc-0a1b2c3d", "SubnetIds": "subnet-0a,subnet-0b"}


@pytest.fixture
def aws(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        standins.use(monkeypatch)
        yield boto3.client("cloudformation", region_name=REGION)


def create(cloud, people=PEOPLE, **given) -> dict[str, str]:
    """Create the stack; its outputs."""
    wanted = GIVEN | {"Attendees": ",".join(people)} | given
    template = expanded(people)
    defaults = {name: str(each["Default"]) for name, each in template["Parameters"].items() if "Default" in each}
    parameters = [{"ParameterKey": k, "ParameterValue": v} for k, v in (defaults | wanted).items()]
    cloud.create_stack(StackName=STACK, TemplateBody=json.dumps(template), Parameters=parameters)
    (stack,) = cloud.describe_stacks(StackName=STACK)["Stacks"]
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    return {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}


def policies(role_name: str) -> dict[str, dict]:
    """The policies in a role, by name."""
    iam = boto3.client("iam", region_name=REGION)
    names = iam.list_role_policies(RoleName=role_name)["PolicyNames"]
    found = {name: iam.get_role_policy(RoleName=role_name, PolicyName=name)["PolicyDocument"] for name in names}
    # moto keeps the policies that stand in a role as the text of a Python dict
    return {name: ast.literal_eval(made) if isinstance(made, str) else made for name, made in found.items()}


def sorted_lists(document):
    """The same policy with its lists in order, which means nothing to IAM."""
    if isinstance(document, dict):
        return {key: sorted_lists(value) for key, value in document.items()}
    if isinstance(document, list):
        return sorted((sorted_lists(each) for each in document), key=json.dumps)
    return document


def as_list(value) -> list:
    """What IAM takes with and without a list."""
    return value if isinstance(value, list) else [value]


def roles(outputs) -> tuple[str, str]:
    """The names of the job's role and of the spaces' role."""
    (domain,) = KEPT["domain"].values()
    return tuple(
        arn.rpartition("/")[2] for arn in (outputs["JobsRole"], domain["DefaultUserSettings"]["ExecutionRole"])
    )


def job(outputs) -> TrainingJob:
    """The job that an attendee submits with what the stack puts out."""
    cache = outputs["JobsUrl"].replace("/jobs", "/neuron-cache")
    return TrainingJob("orpo-1", outputs["JobsRole"], REGION, outputs["JobsUrl"], {"method": "orpo"}, cache_url=cache)


# ── the template ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_cfn_lint_finds_nothing():
    found = lint_file(TEMPLATE, config=ManualArgs(regions=[REGION, "us-east-1", "us-west-2"]))
    assert not found, [str(each) for each in found]


def test_cfn_lint_would_find_a_wrong_property(tmp_path):
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(TEXT.replace("IdleTimeoutInMinutes:", "IdleMinutes:"), encoding="utf-8")
    assert {each.rule.id for each in lint_file(wrong, config=ManualArgs(regions=[REGION]))} == {"E3002"}


def test_it_names_no_account_secret_or_region_of_yours():
    registry = re.search(r"^  Registry:\n((?:    \S.*\n)+)", TEXT, re.MULTILINE)[0]
    rest = TEXT.replace(registry, "")
    assert not re.search(r"\b\d{12}\b", rest), "an account id"
    assert not re.search(r"\b(?:us|eu|ap|ca|sa|af|me|il)-[a-z]+-\d\b", rest), "a region"
    assert not re.search(r"AKIA|hf_[A-Za-z0-9]|NoEcho|arn:aws", rest)
    assert expanded(PEOPLE)["Mappings"]["Registry"] == {region: {"Account": a} for region, a in ACCOUNTS.items()}


def test_it_is_small_enough_to_be_sent_without_a_bucket():
    assert len(TEXT.encode()) < 51_200 and len(expanded(PEOPLE)["Resources"]) < 500


# ── created and deleted ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_class_of_twenty_is_created_and_deleted(aws):
    outputs = create(aws)
    assert set(KEPT["profile"]) == set(KEPT["space"]) == set(PEOPLE) and len(KEPT["domain"]) == 1
    for name, space in KEPT["space"].items():
        assert space["OwnershipSettings"] == {"OwnerUserProfileName": name}
        assert space["SpaceSharingSettings"] == {"SharingType": "Private"}
    assert outputs["DomainId"] in KEPT["domain"] and job(outputs).check() is None
    aws.delete_stack(StackName=STACK)
    assert not any(KEPT.values()), KEPT
    assert not boto3.client("s3", region_name=REGION).list_buckets()["Buckets"]
    assert not boto3.client("iam", region_name=REGION).list_roles()["Roles"]
    assert not boto3.client("sagemaker", region_name=REGION).list_domains()["Domains"]
    assert not boto3.client("budgets", region_name="us-east-1").describe_budgets(AccountId=standins.ACCOUNT)["Budgets"]


def test_a_running_space_and_a_full_bucket_hold_the_deletion_up(aws):
    name, store = create(aws, PEOPLE[:2])["BucketName"], get_backend("s3")[standins.ACCOUNT]["aws"]
    key = "jobs/orpo-1/output/model.tar.gz"
    store.put_object(name, key, b"x")  # not through the API: moto refuses there what comes without TLS, and all does
    RUNNING.add("attendee01")
    (stack,) = get_backend("cloudformation")[standins.ACCOUNT][REGION].stacks.values()  # moto's API deletes only once
    with pytest.raises(Exception, match=r"ResourceInUse|BucketNotEmpty"):
        stack.delete()
    assert set(KEPT["space"]) == {"attendee01"} and KEPT["domain"] and key in store.get_bucket(name).keys
    RUNNING.clear()
    with pytest.raises(Exception, match="BucketNotEmpty"):
        stack.delete()
    assert not any(KEPT.values()) and key in store.get_bucket(name).keys, "the rest is gone, the results are there"
    store.delete_object(name, key)
    stack.delete()
    assert not store.buckets


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"InstanceType": "ml.t9.large"}, "InstanceType: 'ml.t9.large' is none of"),
        ({"SpaceGb": "4"}, "EbsVolumeSizeInGb, value: 4"),
        ({"IdleMinutes": "5"}, "IdleTimeoutInMinutes, value: 5"),
    ],
)
def test_a_value_that_aws_does_not_take_would_be_seen(aws, given, says):
    with pytest.raises(AssertionError, match=says):
        create(aws, PEOPLE[:1], **given)


def test_a_space_waits_for_its_owner():
    """moto makes resources in the order of the template, CloudFormation makes what waits for nothing at once."""
    resources = expanded(PEOPLE)["Resources"]
    assert all(resources[f"Space{name}"]["DependsOn"] == [f"User{name}"] for name in PEOPLE)


def test_what_is_deleted_with_the_stack_is_said():
    resources = expanded(PEOPLE)["Resources"]
    said = {name: each["DeletionPolicy"] for name, each in resources.items() if "DeletionPolicy" in each}
    assert said == {"Bucket": "Delete"} and resources["Bucket"]["UpdateReplacePolicy"] == "Retain"


def test_everything_that_can_have_a_tag_has_the_tag_of_the_jobs():
    without = set()
    for name, each in expanded(PEOPLE[:1])["Resources"].items():
        tags = each["Properties"].get("Tags") or each["Properties"].get("ResourceTags")
        if tags is None:
            without.add(name)
        else:
            assert PROJECT_TAG in tags, name
    assert without == {"BucketPolicy", "StudioPolicy"}, "CloudFormation takes no tags for these two"


# ── spaces ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_spaces_have_the_machine_and_stop_when_idle(aws):
    create(aws, PEOPLE[:1], InstanceType="ml.m5.large", SpaceGb="20", IdleMinutes="120")
    (domain,), (space,) = KEPT["domain"].values(), KEPT["space"].values()
    lab = domain["DefaultUserSettings"]["JupyterLabAppSettings"]
    idle = lab["AppLifecycleManagement"]["IdleSettings"]
    assert idle["LifecycleManagement"] == "ENABLED" and idle["IdleTimeoutInMinutes"] == 120
    assert idle["MaxIdleTimeoutInMinutes"] == 120, "an attendee can't put it off"
    spec = space["SpaceSettings"]["JupyterLabAppSettings"]["DefaultResourceSpec"]
    assert spec == lab["DefaultResourceSpec"] and spec["InstanceType"] == "ml.m5.large"
    assert lab["LifecycleConfigArns"] == [spec["LifecycleConfigArn"]], "a space takes attached scripts only"
    assert space["SpaceSettings"]["SpaceStorageSettings"] == {"EbsStorageSettings": {"EbsVolumeSizeInGb": 20}}
    assert domain["TagPropagation"] == "ENABLED" and domain["HomeEfsFileSystemCreation"] == "Disabled"
    assert domain["AuthMode"] == "IAM" and domain["SubnetIds"] == ["subnet-0a", "subnet-0b"]


def script_of(cloud) -> str:
    """What a space runs when it starts."""
    create(cloud, PEOPLE[:1])
    (script,) = KEPT["script"].values()
    return base64.b64decode(script["StudioLifecycleConfigContent"]).decode()


def test_the_script_is_that_of_the_repository(aws):
    first, given, rest = script_of(aws).split("\n", 2)
    own_first, own_rest = SCRIPT.read_text(encoding="utf-8").split("\n", 1)
    assert (first, rest) == (own_first, own_rest) and given == f"export WORKSHOP_REPOSITORY='{CLONE}'"


def test_the_script_clones_the_repository_that_was_given(aws, tmp_path):
    script, origin, home, path = (tmp_path / name for name in ("script.sh", "origin", "home", "bin"))
    script.write_text(script_of(aws), encoding="utf-8")
    for folder in (origin, home, path):
        folder.mkdir()
    author = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    subprocess.run(["git", "init", "--quiet", str(origin)], check=True)
    subprocess.run(["git", *author, "commit", "--quiet", "--allow-empty", "-m", "x"], cwd=origin, check=True)
    (path / "make").write_text('#!/bin/sh\necho "made $1 in $PWD"\n')
    (path / "make").chmod(0o755)
    instead = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.{origin}.insteadOf", "GIT_CONFIG_VALUE_0": CLONE}
    environment = os.environ | instead | {"HOME": str(home), "PATH": f"{path}:{os.environ['PATH']}"}
    subprocess.run(["bash", str(script)], env=environment, check=True, capture_output=True, timeout=60)
    log, deadline = home / "orpo-workshop-setup.log", time.monotonic() + 60
    while not (log.exists() and "Ready" in log.read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert f"made setup in {home / 'orpo-workshop'}" in log.read_text(), log.read_text()


@pytest.mark.parametrize("repository", ["https://x/'; curl evil", "http://x/y", "https://x/$(id)", "https://x/\ny", ""])
def test_a_repository_can_t_become_another_command(repository):
    allowed = expanded(PEOPLE)["Parameters"]["Repository"]["AllowedPattern"]
    assert re.fullmatch(allowed, CLONE) and not re.fullmatch(allowed, repository)


# ── roles ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_roles_are_those_of_role_py(aws):
    outputs = create(aws)
    job_role, space_role = roles(outputs)
    trust = boto3.client("iam", region_name=REGION).get_role(RoleName=job_role)["Role"]["AssumeRolePolicyDocument"]
    assert sorted_lists(trust) == sorted_lists(role.trust_policy(job(outputs)))
    assert sorted_lists(policies(job_role)) == sorted_lists({"job": role.execution_policy(job(outputs))})
    spaces = policies(space_role)
    assert set(spaces) == {"jobs", "studio"}
    assert sorted_lists(spaces["jobs"]) == sorted_lists(role.caller_policy(job(outputs)))


def test_the_linter_has_no_objection_to_the_policies(aws):
    outputs = create(aws)
    for name in roles(outputs):
        for document in policies(name).values():
            # a policy variable holds a colon, which the linter takes for the next part of the ARN
            text = json.dumps(document).replace("${sagemaker:UserProfileName}", "attendee01")
            found = parliament.analyze_policy_string(text).findings
            assert not found, [str(each) for each in found]


def test_attendees_start_and_stop_their_own_spaces_on_the_machine_of_the_class(aws):
    outputs = create(aws)
    studio = {each["Sid"]: each for each in policies(roles(outputs)[1])["studio"]["Statement"]}
    own = f"arn:aws:sagemaker:{standins.HERE}:user-profile/{outputs['DomainId']}/${{sagemaker:UserProfileName}}"
    assert studio["OpenTheOwnProfile"]["Resource"] == own
    for name in ("StartTheOwnSpace", "StopTheOwnSpace", "ChangeTheOwnSpace"):
        assert studio[name]["Condition"]["ArnLike"] == {"sagemaker:OwnerUserProfileArn": own}
        assert studio[name]["Condition"]["StringEquals"] == {"sagemaker:SpaceSharingType": "Private"}
    for name in ("StartTheOwnSpace", "ChangeTheOwnSpace"):
        machine = studio[name]["Condition"]["ForAllValues:StringEquals"]
        assert machine == {"sagemaker:InstanceTypes": ["ml.t3.large"]}
    assert all(outputs["DomainId"] in str(each["Resource"]) for name, each in studio.items() if name != "FindSpaces")
    looks = {"ListApps", "ListDomains", "ListSpaces", "ListUserProfiles", "CreatePresignedDomainUrl"}
    looks |= {f"Describe{what}" for what in ("App", "Domain", "Space", "UserProfile")}
    allowed = {name for each in studio.values() for name in as_list(each["Action"])}
    does = {"CreateApp", "DeleteApp", "UpdateSpace", "AddTags"}
    assert allowed == {f"sagemaker:{name}" for name in looks | does}, "no new spaces, profiles or domains"


def test_no_star_stands_alone_beyond_what_role_py_argues_for(aws):
    outputs = create(aws)
    argued = [role.execution_policy(job(outputs)), role.caller_policy(job(outputs))]
    argued = {each["Sid"] for document in argued for each in document["Statement"] if each["Resource"] == "*"}
    for name in roles(outputs):
        for document in policies(name).values():
            for each in document["Statement"]:
                assert each["Effect"] == "Allow" and "*" not in str(each["Action"]), each
                if each["Resource"] == "*":
                    assert each["Sid"] in argued | {"FindSpaces"}, each
                    assert each["Sid"] != "FindSpaces" or all(":List" in action for action in each["Action"])


def test_only_sagemaker_of_this_account_takes_the_spaces_role_on(aws):
    outputs = create(aws)
    made = boto3.client("iam", region_name=REGION).get_role(RoleName=roles(outputs)[1])["Role"]
    (trusted,) = made["AssumeRolePolicyDocument"]["Statement"]
    assert trusted["Principal"] == {"Service": "sagemaker.amazonaws.com"} and trusted["Action"] == "sts:AssumeRole"
    assert trusted["Condition"] == {"StringEquals": {"aws:SourceAccount": standins.ACCOUNT}}


# ── bucket and budget ───────────────────────────────────────────────────────────────────────────────────────────────


def test_the_bucket_is_private_encrypted_and_empties_itself(aws):
    name, store = create(aws, DaysToKeep="3")["BucketName"], boto3.client("s3", region_name=REGION)
    assert set(store.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"].values()) == {True}
    (owned,) = store.get_bucket_ownership_controls(Bucket=name)["OwnershipControls"]["Rules"]
    assert owned == {"ObjectOwnership": "BucketOwnerEnforced"}, "no ACL can open it"
    (rule,) = store.get_bucket_encryption(Bucket=name)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    (rule,) = store.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]
    assert rule["Status"] == "Enabled" and rule["Expiration"]["Days"] == 3
    (refused,) = json.loads(store.get_bucket_policy(Bucket=name)["Policy"])["Statement"]
    assert refused["Effect"] == "Deny" and refused["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert refused["Resource"] == [f"arn:aws:s3:::{name}", f"arn:aws:s3:::{name}/*"] and refused["Principal"] == "*"


@pytest.mark.parametrize(("counts", "filters"), [("account", None), ("tag", ["user:project$orpo-workshop"])])
def test_the_budget_warns_by_mail(aws, counts, filters):
    create(aws, BudgetCounts=counts, BudgetDollars="250")
    (request,) = KEPT["budget"].values()
    assert request["Budget"]["BudgetLimit"] == {"Amount": "250", "Unit": "USD"}
    assert request["Budget"].get("CostFilters") == (filters and {"TagKeyValue": filters})
    sent = request["NotificationsWithSubscribers"]
    assert [each["Notification"]["Threshold"] for each in sent] == [50, 80, 100, 100]
    assert {each["Subscribers"][0]["Address"] for each in sent} == {"you@example.com"}


# ── the page ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_costs_on_the_page_are_reckoned():
    shown = re.search(r"<!-- costs -->\n(.*)<!-- /costs -->", PAGE, re.DOTALL)[1].strip()
    assert shown == cost_table().strip(), "run make figures"
    studio = (REPOSITORY / "docs" / "studio.md").read_text(encoding="utf-8")
    assert spaces_table() in studio, "run make figures"
    assert all(f"| {machine} | {dollars:.3f} |" in studio for machine, dollars in SPACES_PER_HOUR.items())
    assert SPACES_SOURCE in studio and re.search(r"20\d\d", SPACES_SOURCE), "a price has its date"


def test_the_costs_are_of_the_template_s_defaults():
    parameters, room = expanded(PEOPLE)["Parameters"], Classroom()
    defaults = {name: parameters[name]["Default"] for name in ("InstanceType", "SpaceGb", "IdleMinutes")}
    assert defaults == {"InstanceType": room.space, "SpaceGb": room.space_gb, "IdleMinutes": room.idle_minutes}
    assert set(parameters["InstanceType"]["AllowedValues"]) == set(SPACES_PER_HOUR), "a price for each"
    standard = {each.name: each.default for each in fields(TrainingJob)}
    assert (room.job, room.job_hours * 3600) == (standard["instance_type"], standard["max_runtime"])


def test_costs_grow_with_people_and_time_and_are_added_up():
    one, two = Classroom(attendees=1), Classroom(attendees=2)
    assert [2 * dollars for *_, dollars in one.costs()] == pytest.approx([dollars for *_, dollars in two.costs()])
    room = Classroom(attendees=10, hours=2, days=30, space="ml.t3.medium", space_gb=10, idle_minutes=60, job_hours=0.5)
    dollars = [each for *_, each in room.costs()]
    assert dollars == pytest.approx(
        [10 * 2 * 0.05, 10 * 0.05, 100 * 0.112, 10 * 0.5 * INSTANCES[room.job].usd_per_hour]
    )
    assert f"**{sum(dollars):,.2f}**" in cost_table(room)


def cli_calls() -> list[list[str]]:
    """Every `aws service operation …` of the page, as its words."""
    blocks = "\n".join(re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)).replace("\\\n", " ")
    found = [re.split(r"[|>)]|\bthen\b", call)[0] for call in re.findall(r"\baws [a-z0-9-]+ [a-z-]+.*", blocks)]
    return [call.replace('"', " ").replace("'", " ").split()[1:] for call in found]


CUSTOM = {("cloudformation", "deploy"), ("s3", "rm"), ("s3", "ls"), ("cloudformation", "wait")}  # the CLI's own
GLOBAL = {"--query", "--output", "--region"}


def test_the_page_s_commands_exist_with_their_options():
    calls = cli_calls()
    assert len(calls) >= 12
    for service, operation, *words in calls:
        if (service, operation) in CUSTOM:
            continue
        model = standins.model_of(service)
        names = {re.sub(r"(?<!^)(?=[A-Z][a-z])", "-", name).lower(): name for name in model.operation_names}
        assert operation in names, (service, operation)
        shape = model.operation_model(names[operation]).input_shape
        taken = {"--" + re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower() for name in shape.members} | GLOBAL
        options = {word for word in words if word.startswith("--")}
        assert options <= taken, (operation, options - taken)
        needed = {"--" + re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower() for name in shape.required_members}
        assert needed <= options, (operation, needed - options)


def test_the_page_s_deploy_command_gives_what_the_template_asks_for():
    (command,) = (call for call in cli_calls() if call[:2] == ["cloudformation", "deploy"])
    parameters = expanded(PEOPLE)["Parameters"]
    given = {word.split("=")[0] for word in command if re.match(r"[A-Z]\w+=", word)}
    assert {name for name, each in parameters.items() if "Default" not in each} <= given <= set(parameters)
    assert {"CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"} <= set(command), "roles; the loop over attendees"
    assert f"{PROJECT_TAG['Key']}={PROJECT_TAG['Value']}" in command
    assert (REPOSITORY / command[command.index("--template-file") + 1]).samefile(TEMPLATE)
    names = subprocess.run(["bash", "-c", "echo $(seq -s, -f attendee%02.0f 20)"], capture_output=True, text=True)
    assert names.stdout.strip() == ",".join(PEOPLE) and "seq -s, -f attendee%02.0f 20" in PAGE


def test_the_page_s_commands_are_shell():
    for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL):
        done = subprocess.run(["bash", "-n"], input=block, text=True, capture_output=True)
        assert done.returncode == 0 and shlex.split(block, comments=True), done.stderr


def test_the_page_s_outputs_are_the_template_s():
    named = re.findall(r"OutputKey=='(\w+)'", PAGE) + re.findall(r"\$\(output (\w+)\)", PAGE) + ["JobsRole", "JobsUrl"]
    assert set(named) == set(expanded(PEOPLE)["Outputs"]) and all(name in PAGE for name in named)


def test_every_parameter_is_on_the_page():
    for name in expanded(PEOPLE)["Parameters"]:
        assert f"`{name}`" in PAGE, name
