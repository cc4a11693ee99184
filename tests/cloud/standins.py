"""CloudFormation on this machine: cfn-lint expands the template, moto creates it, and what moto lacks is added here.

moto's CloudFormation has roles, policies and buckets. These types it does not have; their stand-ins check each request
against botocore's model of the call that CloudFormation makes (names, types, allowed values, patterns, lengths), and
refuse to delete what is in use, as AWS does. Where moto has the service itself, the call is then made:

    AWS::SageMaker::Domain, AWS::Budgets::Budget, AWS::S3::BucketPolicy         made in moto
    AWS::SageMaker::UserProfile, AWS::SageMaker::Space,
    AWS::SageMaker::StudioLifecycleConfig                                       kept here
    public access, ownership and lifecycle rules of AWS::S3::Bucket             made in moto
"""

import functools
import importlib.util
import json
import re
import sys
import types

import boto3
import botocore.session
import regex
from botocore.validate import ParamValidator
from cfnlint.decode import decode
from cfnlint.template import Template
from moto.backends import get_backend
from moto.core.common_models import CloudFormationModel
from moto.s3.models import FakeBucket

from helpers.files import REPOSITORY

# moto's CloudFormation imports its API Gateway, which imports this validator and eleven packages with it. Nothing here
# calls it: an empty module is enough.
if not importlib.util.find_spec("openapi_spec_validator"):
    for name in ("", ".validation", ".validation.exceptions"):
        sys.modules[f"openapi_spec_validator{name}"] = types.ModuleType(f"openapi_spec_validator{name}")
    sys.modules["openapi_spec_validator"].validate = None
    sys.modules["openapi_spec_validator.validation.exceptions"].OpenAPIValidationError = Exception

from moto.cloudformation import parsing

TEMPLATE = REPOSITORY / "cloud" / "classroom.yaml"
REGION, ACCOUNT = "eu-west-1", "123456789012"
HERE = f"{REGION}:{ACCOUNT}"
KEPT: dict[str, dict[str, dict]] = {}  # what is there: {type: {name: request}}
RUNNING: set[str] = set()  # spaces in which an app runs
UNSUPPORTED: list[type] = []


def expanded(attendees: list[str]) -> dict:
    """The template as CloudFormation has it after the transform, for these attendees."""
    return json.loads(expand(",".join(attendees)))


@functools.cache
def expand(attendees: str) -> str:
    template, faults = decode(str(TEMPLATE))
    assert not faults, faults
    template["Parameters"]["Attendees"]["Default"] = attendees
    made = Template(str(TEMPLATE), template, [REGION])
    assert not (faults := made.transform()), faults
    return json.dumps(made.template)


@functools.cache
def model_of(service: str):
    """botocore's description of a service."""
    return botocore.session.get_session().get_service_model(service)


def check(service: str, operation: str, request: dict) -> dict:
    """The request, if botocore's model of the operation takes it."""
    shape = model_of(service).operation_model(operation).input_shape
    report = ParamValidator().validate(request, shape)
    assert not report.has_errors(), f"{operation}: {report.generate_report()}"
    check_values(operation, shape, request)
    return request


def check_values(where: str, shape, value) -> None:
    """What botocore leaves to the service: allowed values, patterns and limits."""
    if shape.type_name == "structure":
        for name, inner in value.items():
            check_values(f"{where}.{name}", shape.members[name], inner)
    elif shape.type_name == "list":
        for inner in value:
            check_values(where, shape.member, inner)
    elif shape.type_name in ("string", "integer"):
        assert not getattr(shape, "enum", None) or value in shape.enum, f"{where}: {value!r} is none of {shape.enum}"
        size = len(value) if shape.type_name == "string" else value
        assert shape.metadata.get("min", size) <= size <= shape.metadata.get("max", size), f"{where}: {value!r}"
        pattern = shape.metadata.get("pattern")
        if pattern:  # botocore's patterns are not all of Python's kind
            assert regex.fullmatch(pattern, value), f"{where}: {value!r} does not match {pattern}"


def stand_in(cfn_type: str, create, delete, attributes: tuple[str, ...] = ()) -> None:
    """A class for a type that moto's CloudFormation lacks.

    create(properties, name) makes the thing and returns its id and {attribute: value}; delete(id) ends it.
    """

    class StandIn(CloudFormationModel):
        @staticmethod
        def cloudformation_type():
            return cfn_type

        @staticmethod
        def cloudformation_name_type():
            return ""

        @classmethod
        def has_cfn_attr(cls, attr):
            return attr in attributes

        @classmethod
        def create_from_cloudformation_json(cls, resource_name, cloudformation_json, account_id, region_name, **_):
            made = cls()
            made.physical_resource_id, made.values = create(cloudformation_json["Properties"], resource_name)
            return made

        def get_cfn_attribute(self, attribute_name):
            return self.values[attribute_name]

        def delete(self, account_id, region_name):
            delete(self.physical_resource_id)

    UNSUPPORTED.append(StandIn)  # moto finds it among the subclasses for as long as somebody holds it


def keep(kind: str, name: str, request: dict) -> None:
    assert name not in KEPT.setdefault(kind, {}), f"there is a {kind} {name} already"
    KEPT[kind][name] = request


def in_use(kind: str, name: str, member: str) -> bool:
    return any(request[member] == name for request in KEPT.get(kind, {}).values())


def refuse(reason: bool, text: str) -> None:
    if reason:
        raise RuntimeError(f"ResourceInUse: {text}")


def create_domain(properties, name):
    request = check("sagemaker", "CreateDomain", properties)
    arn = boto3.client("sagemaker", region_name=REGION).create_domain(**request)["DomainArn"]
    made = arn.rpartition("/")[2]
    keep("domain", made, request)
    return made, {"DomainId": made, "DomainArn": arn}


def delete_domain(name):
    refuse(in_use("profile", name, "DomainId") or in_use("space", name, "DomainId"), f"domain {name}")
    boto3.client("sagemaker", region_name=REGION).delete_domain(DomainId=name)
    del KEPT["domain"][name]


def create_profile(properties, name):
    request = check("sagemaker", "CreateUserProfile", properties)
    assert request["DomainId"] in KEPT["domain"]
    keep("profile", request["UserProfileName"], request)
    return request["UserProfileName"], {}


def delete_profile(name):
    owned = [
        space for space in KEPT.get("space", {}).values() if space["OwnershipSettings"]["OwnerUserProfileName"] == name
    ]
    refuse(bool(owned), f"user profile {name}")
    del KEPT["profile"][name]


def create_space(properties, name):
    request = check("sagemaker", "CreateSpace", properties)
    assert request["OwnershipSettings"]["OwnerUserProfileName"] in KEPT.get("profile", {}), "the owner comes first"
    keep("space", request["SpaceName"], request)
    return request["SpaceName"], {}


def delete_space(name):
    refuse(name in RUNNING, f"space {name} has an app")
    del KEPT["space"][name]


def create_script(properties, name):
    request = check("sagemaker", "CreateStudioLifecycleConfig", properties)
    keep("script", request["StudioLifecycleConfigName"], request)
    made = request["StudioLifecycleConfigName"]
    return made, {"StudioLifecycleConfigArn": f"arn:aws:sagemaker:{HERE}:studio-lifecycle-config/{made}"}


def delete_script(name):
    used = json.dumps(KEPT.get("domain", {}))
    refuse(f"studio-lifecycle-config/{name}" in used, f"lifecycle configuration {name}")
    del KEPT["script"][name]


def create_budget(properties, name):
    budget = dict(properties["Budget"], BudgetName=name)
    budget["BudgetLimit"] = dict(
        budget["BudgetLimit"], Amount=str(budget["BudgetLimit"]["Amount"])
    )  # CloudFormation does
    request = {"AccountId": ACCOUNT, "Budget": budget} | {k: v for k, v in properties.items() if k != "Budget"}
    boto3.client("budgets", region_name="us-east-1").create_budget(**check("budgets", "CreateBudget", request))
    keep("budget", name, request)
    return name, {}


def delete_budget(name):
    boto3.client("budgets", region_name="us-east-1").delete_budget(AccountId=ACCOUNT, BudgetName=name)
    del KEPT["budget"][name]


def create_bucket_policy(properties, name):
    request = {"Bucket": properties["Bucket"], "Policy": json.dumps(properties["PolicyDocument"])}
    boto3.client("s3", region_name=REGION).put_bucket_policy(**check("s3", "PutBucketPolicy", request))
    return properties["Bucket"], {}


def delete_bucket_policy(name):
    boto3.client("s3", region_name=REGION).delete_bucket_policy(Bucket=name)


MOTOS_OWN = FakeBucket.create_from_cloudformation_json


def create_bucket(resource_name, cloudformation_json, account_id, region_name, **rest):
    """moto's bucket, and what moto leaves out of it."""
    made = MOTOS_OWN(resource_name, cloudformation_json, account_id, region_name, **rest)
    wanted, store = cloudformation_json["Properties"], boto3.client("s3", region_name=REGION)
    rules = [
        dict(rule, Expiration={"Days": rule["ExpirationInDays"]}) for rule in wanted["LifecycleConfiguration"]["Rules"]
    ]
    rules = [{"Filter": {"Prefix": ""}, "ID": rule.pop("Id"), **rule} for rule in rules]
    for rule in rules:
        del rule["ExpirationInDays"]
    calls = {
        "PutPublicAccessBlock": {"PublicAccessBlockConfiguration": wanted["PublicAccessBlockConfiguration"]},
        "PutBucketOwnershipControls": {"OwnershipControls": wanted["OwnershipControls"]},
        "PutBucketLifecycleConfiguration": {"LifecycleConfiguration": {"Rules": rules}},
    }
    for operation, request in calls.items():
        method = re.sub(r"(?<!^)(?=[A-Z])", "_", operation).lower()
        getattr(store, method)(**check("s3", operation, {"Bucket": resource_name} | request))
    return made


def delete_bucket(resource_name, cloudformation_json, account_id, region_name):
    """moto deletes a stack in no order and comes back to what refuses, so a bucket waits for its policy, as on AWS."""
    refuse(get_backend("s3")[ACCOUNT]["aws"].get_bucket(resource_name).policy is not None, f"bucket {resource_name}")
    boto3.client("s3", region_name=REGION).delete_bucket(Bucket=resource_name)  # refuses while there are objects


stand_in("AWS::SageMaker::Domain", create_domain, delete_domain, ("DomainId", "DomainArn"))
stand_in("AWS::SageMaker::UserProfile", create_profile, delete_profile)
stand_in("AWS::SageMaker::Space", create_space, delete_space)
stand_in("AWS::SageMaker::StudioLifecycleConfig", create_script, delete_script, ("StudioLifecycleConfigArn",))
stand_in("AWS::Budgets::Budget", create_budget, delete_budget)
stand_in("AWS::S3::BucketPolicy", create_bucket_policy, delete_bucket_policy)


def use(monkeypatch) -> None:
    """Empty stand-ins, in moto's CloudFormation for the length of a test."""
    KEPT.clear()
    RUNNING.clear()
    for cached in (parsing.get_model_list, parsing.get_model_map, parsing.get_name_type_map):
        cached.cache_clear()
    monkeypatch.setattr(FakeBucket, "create_from_cloudformation_json", create_bucket)
    monkeypatch.setattr(FakeBucket, "delete_from_cloudformation_json", delete_bucket)
