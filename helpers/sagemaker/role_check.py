"""Can SageMaker take the job's role on? Looked up before anything is sent, as far as your own role may look."""

from collections.abc import Iterator

from helpers.sagemaker.aws_errors import JobError, client, told

SERVICE, ASSUME = "sagemaker.amazonaws.com", ("sts:AssumeRole", "sts:*", "*")


def refuse_other_account(role: str, region: str) -> None:
    """A ValueError for a role of another account than the credentials': a role is passed within its account only."""
    with told("GetCallerIdentity"):
        mine = client("sts", region).get_caller_identity()["Account"]
    if mine != role.split(":")[4]:
        raise ValueError(f"the role is of another account than your credentials (…{mine[-4:]}): name a role of yours")


def check_role(role: str, region: str) -> None:
    """A JobError for a role that is not there, or that SageMaker may not assume. Who may not look is told so."""
    from botocore.exceptions import ClientError

    refuse_other_account(role, region)
    name = role.rpartition("/")[2]
    with told(f"GetRole {name}"):
        try:
            found = client("iam", region).get_role(RoleName=name)["Role"]
        except ClientError as error:
            if error.response["Error"]["Code"] in ("AccessDenied", "AccessDeniedException"):
                print(f"role {name} is not looked at, your own role lacks iam:GetRole: a wrong one fails the job")
                return
            if error.response["Error"]["Code"] != "NoSuchEntity":
                raise
            raise JobError(f"there is no role {name}: how_to_create(job) prints the commands that make it") from error
    if found["Arn"] != role:
        raise JobError(f"role {name} is {found['Arn']}: give that as role=")
    if SERVICE not in trusted(found["AssumeRolePolicyDocument"]):
        raise JobError(f"role {name} can't be assumed by {SERVICE}: give it trust_policy(job) as its trust policy")


def trusted(document: dict) -> set[str]:
    """The services that a trust policy lets assume the role; its conditions are not followed."""
    return {
        service
        for statement in listed(document.get("Statement"))
        if statement.get("Effect") == "Allow" and set(listed(statement.get("Action"))) & set(ASSUME)
        for service in principals(statement.get("Principal"))
    }


def principals(principal) -> Iterator[str]:
    """The services of a statement's principal."""
    yield from listed(principal.get("Service")) if isinstance(principal, dict) else ()


def listed(value) -> list:
    """IAM writes one of something without a list."""
    return value if isinstance(value, list) else [] if value is None else [value]
