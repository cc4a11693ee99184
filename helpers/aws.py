"""What AWS means by an error, and the fix: for S3 and whoever else is called. It imports nothing of ours, nor boto3."""

import re

MISSING = "an object is missing: push it again with force, or fix its name"
EXPIRED = "the credentials have expired: renew them (`aws sso login`, or new keys)"
KEYS = "the access key is not right: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY anew, or run `aws configure`"
REGION = "the bucket is in another region: set AWS_DEFAULT_REGION to its own"
RIGHTS = "the role needs s3:ListBucket and s3:GetObject there"
ROLE = "these credentials may not assume the role: see role_arn in ~/.aws/config, and the role's trust policy"
CLOCK = "this machine's clock is wrong: set it (`chronyc makestep`, or `timedatectl set-ntp true`)"
SKEWED = re.compile(r"[Ss]ignature (?:expired|not yet current)")  # in a message whose code speaks of the signature
FIXES = {  # by S3's error code; a HEAD request is answered with the bare status
    "NoSuchBucket": "create the bucket, or fix its name",
    "NoSuchKey": MISSING,
    "404": MISSING,
    "AccessDenied": RIGHTS,
    "403": RIGHTS,
    "AllAccessDisabled": "the bucket is closed: ask its owner",
    "AccountProblem": "the AWS account has a problem: see its console",
    "BadDigest": "a file changed while it was sent: push again",
    "ExpiredToken": EXPIRED,
    "ExpiredTokenException": EXPIRED,
    "TokenRefreshRequired": EXPIRED,
    "RequestExpired": EXPIRED,
    "InvalidToken": EXPIRED,
    "UnauthorizedException": EXPIRED,
    "400": EXPIRED,
    "InvalidClientTokenId": KEYS,
    "UnrecognizedClientException": KEYS,
    "InvalidSignatureException": KEYS,
    "IncompleteSignature": KEYS,
    "AuthFailure": KEYS,
    "InvalidAccessKeyId": KEYS,
    "SignatureDoesNotMatch": KEYS,
    "RequestTimeTooSkewed": CLOCK,
    "RequestInTheFuture": CLOCK,
    "PermanentRedirect": REGION,
    "AuthorizationHeaderMalformed": REGION,
    "IllegalLocationConstraintException": REGION,
    "301": REGION,
    "KMS.DisabledException": "the bucket's KMS key is disabled: enable it",
    "SlowDown": "try again later",
    "InternalError": "try again later",
    "ServiceUnavailable": "try again later",
    "RequestTimeout": "try again later",
}
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
    "ValueError": "set AWS_ENDPOINT_URL to one such as https://host, or unset it",
}


def fix_of(code: str, message: str = "") -> str | None:
    """The fix for an error code of AWS, None where none is known. Its message may tell more than the code."""
    if SKEWED.search(message):
        return CLOCK
    return ROLE if "sts:AssumeRole" in message else FIXES.get(code)


def client_fix(error: Exception) -> str:
    """The fix for what went wrong before AWS could answer."""
    names = (kind.__name__ for kind in type(error).__mro__)
    return next((CLIENT_FIXES[name] for name in names if name in CLIENT_FIXES), "see the AWS variables and ~/.aws")


def told(error: Exception) -> str | None:
    """An error of boto3's in one line with the fix; None for any other error."""
    if isinstance(answer := getattr(error, "response", None), dict):  # a ClientError
        code, message = (answer.get("Error", {}).get(name, "") for name in ("Code", "Message"))
        return f"AWS answered {code}: {fix_of(code, message) or message}"
    if type(error).__module__.startswith(("botocore.", "boto3.")):
        return f"{' '.join(str(error).split())}: {client_fix(error)}"
    return None
