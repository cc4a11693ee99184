"""What looks like a credential: in training texts a warning, in a job's settings a refusal, in what is shown removed.

DescribeTrainingJob shows hyperparameters, environment and tags to everybody who may look at the job.

detect-secrets decides by its detectors of known forms; those by entropy flag plain English and are left out. It has
none for the tokens of Hugging Face and Anthropic: those are ours. A name such as `hub_token` is refused whatever its
value.
"""

import re
from collections.abc import Mapping
from functools import cache

TOLD_BY_NAME = re.compile(r"(^|[_-])(token|password|passwd|secret|api_?key|access_?key|credentials?)$", re.IGNORECASE)
OURS = {
    "Hugging Face token": re.compile(r"\bhf_[A-Za-z0-9]{20,}\b"),
    "API key": re.compile(r"\bsk-(?:[a-z]+-)?[A-Za-z0-9_-]{24,}"),
}
DETECTORS = (
    *("AWSKeyDetector", "GitHubTokenDetector", "GitLabTokenDetector", "PrivateKeyDetector", "JwtTokenDetector"),
    *("SlackDetector", "OpenAIDetector", "PypiTokenDetector", "NpmDetector", "StripeDetector", "BasicAuthDetector"),
)
KEY_BLOCK = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
FIX = "store it in AWS Secrets Manager and give the name of the secret as token_secret="


def kind_of_credential(text: str) -> str | None:
    """What kind of credential stands in a text, such as "AWS Access Key"; None for none. It may hold several lines."""
    for kind, pattern in OURS.items():
        if pattern.search(text):
            return kind
    for line in text.splitlines():
        for detector in _detectors():
            if next(iter(detector.analyze_string(line)), None):
                return detector.secret_type
    return None


def without_credentials(text: str) -> str:
    """The text, with the kind of each credential in brackets in its place."""
    text = KEY_BLOCK.sub("[Private Key]", text)
    for kind, pattern in OURS.items():
        text = pattern.sub(f"[{kind}]", text)
    return "\n".join(map(_cleaned, text.split("\n")))


def _cleaned(line: str) -> str:
    for detector in _detectors():
        for secret in set(filter(None, detector.analyze_string(line))):
            line = line.replace(secret, f"[{detector.secret_type}]")
    return line


@cache
def _detectors() -> list:
    try:
        from detect_secrets.core.plugins.initialize import from_plugin_classname
    except ImportError as error:
        raise ValueError("credentials can't be looked for without detect-secrets: run `make setup`") from error
    return [from_plugin_classname(name) for name in DETECTORS]


def refuse_credentials(where: str, values: Mapping[str, object]) -> None:
    """A ValueError for the first name or value that looks like a credential. It never shows the value."""
    for name, value in values.items():
        by_name = TOLD_BY_NAME.search(name) and value not in (None, "", False, "False", "None")
        kind = "a credential by its name" if by_name else kind_of_credential(f'{name} = "{value}"\n{value}')
        if kind:
            shown = name if kind_of_credential(name) is None else "a name"
            raise ValueError(
                f"{where}, {shown}: looks like {kind}, and everybody who sees the job would read it: {FIX}"
            )
