"""AWS API operations as botocore describes them: each with one short plain answer to what it does.

From HTML documentation to a clean sentence, and the words of names and texts that carry their meaning.
"""

import gzip
import html
import json
import re
from dataclasses import dataclass
from functools import cached_property
from html.parser import HTMLParser
from pathlib import Path

from helpers.data.words import ACTIONS_OF, NO_VERBS, content_words, sentences, stem

MIN_WORDS, MAX_WORDS = 4, 45  # of an answer

# Sentences that do not say what the operation does, or that point at text the answer does not carry.
BOILERPLATE = re.compile(
    r"\bfor (more|additional|further|full|complete|detail|an example|example|information|instruction)"
    r"|\bsee\b|learn more|refer to|deprecated|no longer|discontinued|end of (support|life)|preview release"
    r"|in preview|\bbeta\b|(is|are)(n't| not) (yet )?(available|supported|intended)"
    r"|internal use|do(n't| not) use|recommend|\b(instead|following|above|below|legacy)\b"
    r"|this (topic|section|page|guide)|reserved for|https?:|www\.",
    re.IGNORECASE,
)
ASIDE = re.compile(r"\s*[(\[](?:for (?:more|details)|see|also see|refer)\b[^)\]]*[)\]]", re.IGNORECASE)
# "This operation deletes ..." -> "Deletes ..."
PREAMBLE = re.compile(r"^(?:This|The) (?:API |asynchronous )*(?:operation|API|action|call|command) (?=[a-z]+s\b)")
TITLES = {  # where botocore's is one glued word, bare, or outdated
    "kendra": "Amazon Kendra",
    "odb": "Oracle Database@AWS",
    "synthetics": "Amazon CloudWatch Synthetics",
    "schemas": "Amazon EventBridge Schemas",
    "connect": "Amazon Connect",
    "sagemaker": "Amazon SageMaker",
    "sesv2": "Amazon SES v2",
    "ecs": "Amazon Elastic Container Service",
    "mwaa-serverless": "Amazon MWAA Serverless",
}
TAGGING = re.compile(r"^([A-Z][a-z]+)?[Tt]ags?(For|From|To|Of|On|$)|^(Un)?[Tt]ag[A-Z]")


class _Paragraphs(HTMLParser):
    """Text by paragraph, without notes, lists, tables and headings."""

    BREAKS = re.compile("p|br|div|section|li|[uo]l|note|important")
    SKIPPED = re.compile("note|important|caution|warning|tip|[uod]l|table|pre|title|h[1-6]|examples?|script|style")

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.paragraphs, self.skip_depth = [""], 0

    def _cross(self, tag, step):
        if self.SKIPPED.fullmatch(tag):
            self.skip_depth = max(0, self.skip_depth + step)
        if self.BREAKS.fullmatch(tag):
            self.paragraphs.append("")

    def handle_starttag(self, tag, attrs):
        self._cross(tag, 1)

    def handle_endtag(self, tag):
        self._cross(tag, -1)

    def handle_data(self, data):
        if not self.skip_depth:
            self.paragraphs[-1] += data


def paragraphs(documentation):
    """HTML documentation -> list of plain paragraphs, whitespace normalised, '(see ...)' asides left out."""
    parser = _Paragraphs()
    parser.feed(documentation)
    parser.close()
    texts = (ASIDE.sub("", " ".join(html.unescape(text).split())) for text in parser.paragraphs)
    return [re.sub(r"\s+([,.;:!?)])", r"\1", text) for text in texts if text]


def name_words(name):
    """'BatchCreateDBInstances' -> ('creat', 'db', 'instanc'): action first, without Batch and its like."""
    stems = (stem(word) for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z]+|[a-z]+|\d+", name))
    return tuple(word for word in stems if word not in ("batch", "bulk", "admin"))


def leads_with_action(sentence, verb=""):
    """True if the sentence begins with a verb, maybe after an adverb ('Permanently deletes'), or `verb`."""
    words = [word for word in re.findall(r"[A-Za-z-]+", sentence)[:2] if not word.endswith("ly")]
    first = words[0] if words else ""
    if first.lower() in NO_VERBS:
        return False
    return bool(re.fullmatch(r"[A-Za-z][a-z-]+s", first)) or stem(first) in ACTIONS_OF or stem(first) == verb


def clean_answer(documentation, verb=""):
    """HTML documentation of an operation -> one short plain answer that ends with a full stop, or None.

    It is the first sentence that leads with an action (`verb` is the stem of the name's own) and is no
    boilerplate, with the next one if the first is very short.
    """
    for paragraph in paragraphs(documentation):
        told = [s for s in sentences(paragraph) if not BOILERPLATE.search(s) and s[-1] not in ":?"]
        told = [PREAMBLE.sub("", s).rstrip(" .;,!") + "." for s in told]
        told = [s[0].upper() + s[1:] for s in told]
        start = next((i for i, s in enumerate(told) if leads_with_action(s, verb)), None)
        if start is not None:
            answer = told[start]
            if len(answer.split()) <= MIN_WORDS:
                answer = " ".join([answer, *told[start + 1 : start + 2]])
            whole = MIN_WORDS <= len(answer.split()) <= MAX_WORDS and answer.count("(") == answer.count(")")
            return answer if whole else None
    return None


@dataclass(frozen=True, eq=False)
class Operation:
    """An operation with a clean answer; `service` is botocore's id, `title` the name a question uses."""

    service: str
    title: str
    name: str
    answer: str

    @cached_property
    def key(self):
        return f"{self.service}.{self.name}"

    @cached_property
    def content(self):
        return content_words(self.answer)

    @cached_property
    def words(self):
        return name_words(self.name)

    @cached_property
    def things(self):
        """The words of the name without its action and version."""
        return tuple(w for w in self.words[1:] if w not in ("v", "all") and not w.isdigit())

    @cached_property
    def actions(self):
        return ACTIONS_OF.get(self.words[0], {self.words[0]})

    @cached_property
    def text_actions(self):
        """The actions at the head of the answer: 'Creates or updates a hub.' -> {'create', 'update'}."""
        head = [stem(word) for word in self.answer.split()[:6]]
        return set().union(*(ACTIONS_OF.get(word, ()) for word in head)) or {head[0]}


def service_title(service, metadata):
    """The name by which a question calls a service."""
    title = TITLES.get(service, metadata.get("serviceFullName") or metadata["serviceId"])
    title = re.sub(r"\s*\([^)]*\)$| API( Service)?$", "", title.strip())
    if " " not in title:  # AWSBillingConductor
        title = re.sub(r"(?<=[a-z]{2})(?=[A-Z][a-z])", " ", title)
    title = re.sub(r"^(AWS|Amazon)(?=[A-Z])|(?<=[a-z])(?=V\d)", r"\1 ", title)
    return title[0].upper() + title[1:]


def read_models():
    """Yield (service, metadata, operations) of the newest API version of each service, in order."""
    try:
        import botocore
    except ImportError as error:
        raise ImportError("the domain is read from botocore's models: pip install botocore") from error
    root = Path(botocore.__file__).parent / "data"
    newest = {path.parent.parent.name: path for path in sorted(root.glob("*/*/service-2.json*"))}
    if not newest:
        raise FileNotFoundError(f"no service models under {root}: reinstall botocore with pip")
    for service, path in sorted(newest.items()):
        data = path.read_bytes()
        model = json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)
        yield service, model["metadata"], model["operations"]


def read_operations():
    """All operations that have a clean answer, in order of service and name."""
    found, titles = [], set()
    for service, metadata, models in read_models():
        title = service_title(service, metadata)
        title = metadata["serviceId"] if title in titles else title  # elbv2 has the title of elb
        if title in titles:  # sms-voice is pinpoint-sms-voice again
            continue
        titles.add(title)
        seen = set()
        for name, model in sorted(models.items()):
            if model.get("deprecated") or TAGGING.match(name):
                continue
            answer = clean_answer(model.get("documentation", ""), name_words(name)[0])
            if answer and name not in answer and answer.lower() not in seen:  # to name itself gives it away
                seen.add(answer.lower())
                found.append(Operation(service, title, name, answer))
    return found
