"""What AWS means by an error, and the fix: for S3 and whoever else is called. It imports nothing of ours, nor boto3."""

import re

ROLE = "these credentials may not assume the role: see role_arn in ~/.aws/config, and the role's trust policy"
CLOCK = "this machine's clock is wrong: set it (`chronyc makestep`, or `timedatectl set-ntp true`)"
SKEWED = re.compile(r"[Ss]ignature (?:expired|not yet current)")  # in a message whose code speaks of the signature
FIXES_AND_CODES = {  # S3's error codes and others'; a HEAD request is answered with the bare status
    "create the bucket, or fix its name": "NoSuchBucket",
    "an object is missing: push it again with force, or fix its name": "NoSuchKey 404",
    "the role needs s3:ListBucket and s3:GetObject there": "AccessDenied 403",
    "the bucket is closed: ask its owner": "AllAccessDisabled",
    "the AWS account has a problem: see its console": "AccountProblem",
    "a file changed while it was sent: push again": "BadDigest",
    "the credentials have expired: renew them (`aws sso login`, or new keys; in Studio, restart the kernel)": (
        "ExpiredToken ExpiredTokenException TokenRefreshRequired RequestExpired InvalidToken UnauthorizedException 400"
    ),
    "the access key is not right: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY anew, or run `aws configure`": (
        "InvalidClientTokenId InvalidAccessKeyId SignatureDoesNotMatch UnrecognizedClientException "
        "InvalidSignatureException"
    ),
    CLOCK: "RequestTimeTooSkewed RequestInTheFuture",
    "the bucket is in another region: set AWS_DEFAULT_REGION to its own": (
        "PermanentRedirect AuthorizationHeaderMalformed IllegalLocationConstraintException 301"
    ),
    "the bucket's KMS key is disabled: enable it": "KMS.DisabledException",
    "try again later": (
        "SlowDown InternalError InternalFailure InternalServerError ServiceUnavailable ServiceUnavailableException "
        "RequestTimeout"
    ),
}
FIXES = {code: fix for fix, codes in FIXES_AND_CODES.items() for code in codes.split()}
NETWORK_FIX = "check the network, a proxy, AWS_ENDPOINT_URL and AWS_CA_BUNDLE"
CLIENT_FIXES = {  # by botocore's exception, or what it derives from
    "NoCredentialsError": "no AWS credentials were found: give the instance a role, or run `aws configure`",
    "PartialCredentialsError": "set both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or neither",
    "CredentialRetrievalError": "renew the credentials, or fix the profile in ~/.aws/config",
    "ProfileNotFound": "set AWS_PROFILE to one that `aws configure list-profiles` names, or unset it",
    "ConfigParseError": "fix that file, or set AWS_CONFIG_FILE to another",
    "NoRegionError": "set AWS_DEFAULT_REGION",
    "InvalidRegionError": "fix AWS_DEFAULT_REGION, or the region in ~/.aws/config",
    "TokenRetrievalError": "run `aws sso login`",
    "SSOError": "run `aws sso login`",
    "ConnectionError": NETWORK_FIX,
    "HTTPClientError": NETWORK_FIX,
    "JSONDecodeError": "fix the profile's credential_process, which gave no JSON",
    "ValueError": "set AWS_ENDPOINT_URL to one such as https://host, or unset it",
}


def fix_of(code: str, message: str = "") -> str | None:
    """The fix for an error code of AWS, None where none is known. Its message may tell more than the code."""
    if SKEWED.search(message):
        return CLOCK
    return ROLE if "sts:AssumeRole" in message else FIXES.get(code)


def client_fix(error: Exception) -> str:
    """The fix for what went wrong before AWS could answer."""
    if "Can only retrieve metadata" in str(error):
        return "fix AWS_CONTAINER_CREDENTIALS_FULL_URI, or unset it"
    names = (kind.__name__ for kind in type(error).__mro__)
    return next((CLIENT_FIXES[name] for name in names if name in CLIENT_FIXES), "see the AWS variables and ~/.aws")


def told(error: Exception) -> str | None:
    """An error of boto3's in one line with the fix; None for any other error."""
    if isinstance(answer := getattr(error, "response", None), dict):  # a ClientError
        code, message = (answer.get("Error", {}).get(name, "") for name in ("Code", "Message"))
        return f"AWS answered {code}: {fix_of(code, message) or message}"
    if type(error).__module__.startswith(("botocore.", "boto3.")) or str(error).startswith("Invalid endpoint"):
        return f"{' '.join(str(error).split())}: {client_fix(error)}"
    return None
