"""What AWS answers is one line with its own fix, whoever asked."""

import json

import pytest
from botocore import exceptions

from helpers.aws import client_fix, told

EXPIRED = "Signature expired: 20260101T000000Z is now earlier than 20260101T001000Z (20260101T001500Z - 5 min.)"
EARLY = "Signature not yet current: 20260101T010000Z is still later than 20260101T000500Z"


@pytest.mark.parametrize(
    ("code", "message", "fix"),
    [
        ("ExpiredToken", "The security token included in the request is expired", "have expired: renew them"),
        ("400", "Bad Request", "have expired: renew them"),
        ("UnrecognizedClientException", "The security token included in the request is invalid", "aws configure"),
        ("SignatureDoesNotMatch", "The request signature we calculated does not match", "aws configure"),
        ("SignatureDoesNotMatch", EXPIRED, "clock is wrong: set it"),
        ("InvalidSignatureException", EARLY, "clock is wrong: set it"),
        ("RequestTimeTooSkewed", "", "clock is wrong: set it"),
        ("AccessDenied", "User is not authorized to perform: sts:AssumeRole on resource", "role's trust policy"),
        ("AccessDenied", "Access Denied", "s3:GetObject"),
        ("SomethingNew", "what AWS says of it", "what AWS says of it"),
    ],
)
def test_each_answer_has_its_own_fix(code, message, fix):
    said = told(exceptions.ClientError({"Error": {"Code": code, "Message": message}}, "ListObjectsV2"))
    assert said.startswith(f"AWS answered {code}: ") and fix in said and "try again later" not in said


@pytest.mark.parametrize(
    ("error", "fix"),
    [
        (exceptions.ProfileNotFound(profile="nosuch"), "set AWS_PROFILE to one that"),
        (exceptions.NoCredentialsError(), "give the instance a role"),
        (exceptions.UnauthorizedSSOTokenError(), "aws sso login"),
        (exceptions.SSOTokenLoadError(error_msg="no token"), "aws sso login"),
        (exceptions.ConnectTimeoutError(endpoint_url="https://a"), "a proxy, AWS_ENDPOINT_URL"),
        (exceptions.ReadTimeoutError(endpoint_url="https://a"), "a proxy, AWS_ENDPOINT_URL"),
        (ValueError("Invalid endpoint: localhost:9"), "set AWS_ENDPOINT_URL to one such as https://host"),
        (exceptions.InvalidRegionError(region_name="us east"), "fix AWS_DEFAULT_REGION"),
        (exceptions.UnknownServiceError(service_name="s4", known_service_names="s3"), "see the AWS variables"),
    ],
)
def test_what_fails_before_aws_can_answer_has_its_own_fix(error, fix):
    assert fix in told(error) and "\n" not in told(error)


def test_a_value_error_of_credentials_is_not_told_as_one_of_the_endpoint():
    assert "credential_process" in client_fix(json.JSONDecodeError("Expecting value", "x", 0))
    elsewhere = ValueError("Unsupported host 'a'. Can only retrieve metadata from a loopback address")
    assert "AWS_CONTAINER_CREDENTIALS_FULL_URI" in client_fix(elsewhere)


def test_other_errors_are_nobody_elses():
    assert told(FileNotFoundError("x")) is None
