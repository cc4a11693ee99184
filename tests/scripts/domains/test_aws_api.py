"""The built-in domain: clean text, honest rejected answers, splits that share nothing, the same each time."""

import hashlib
import json
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers.data.words import content_words, sentences
from scripts.domains import aws_api as domain
from scripts.domains.operations import Operation, clean_answer, name_words, read_operations

HASH_PROGRAM = """
import hashlib, json, sys
from scripts.domains.aws_api import build_domain
rows = {split: list(rows) for split, rows in build_domain(int(sys.argv[1])).items()}
print(hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest())
"""


@pytest.fixture(scope="module")
def built():
    start = time.perf_counter()
    result = domain.build_domain(seed=0)
    return result, time.perf_counter() - start


@pytest.fixture(scope="module")
def pairs(built):
    return built[0]


@pytest.fixture(scope="module")
def family():
    return domain.group_families(read_operations())


def operation(name, answer, service="s", title="S"):
    return Operation(service, title, name, answer)


def texts(rows):
    return {row[column][0]["content"] for row in rows for column in ("chosen", "rejected")}


@pytest.mark.parametrize(
    ("documentation", "answer"),
    [
        ("<p>Creates a\n   <code>thing</code> &amp; its  parts.</p>", "Creates a thing & its parts."),
        ("<p>Gets the size of a <a>Thing</a> , in GiB .</p>", "Gets the size of a Thing, in GiB."),
        ("<note><p>Creates no harm.</p></note><p>Deletes the old thing.</p>", "Deletes the old thing."),
        ("<p>Lists things, e.g. Yours. For more information, see <a>X</a>.</p>", "Lists things, e.g. Yours."),
        ("<p>Deletes your old thing.For more information, see the guide.</p>", "Deletes your old thing."),
        ("<p>Deletes a thing (see <a>Things</a>) for good.</p>", "Deletes a thing for good."),
        ("<p>This API is in preview.</p><p>Starts the named job now.</p>", "Starts the named job now."),
        ("<p>This operation removes the lock of a domain.</p>", "Removes the lock of a domain."),
        ("<p>A thing is a box.</p><p>Permanently deletes the box.", "Permanently deletes the box."),
        ("<p>Stops a job. This operation ends it now.</p>", "Stops a job. Ends it now."),
        ("<p>Stops a job.</p>", None),
        ("<p>Stops a job. It cannot be started again.</p>", "Stops a job. It cannot be started again."),
        ("<p>Updates the following settings:</p><ul><li>Creates a new one here.</li></ul>", None),
        ("<p>This operation is deprecated.</p>", None),
        ("<p>Creates " + "very " * 60 + "long text.</p>", None),
        ("", None),
        ("<p></p>", None),
    ],
)  # fmt: skip
def test_clean_answer(documentation, answer):
    assert clean_answer(documentation) == answer


def test_clean_answer_takes_a_verb_of_the_name():
    assert clean_answer("<p>Purchase the given offering.</p>", "purchas") == "Purchase the given offering."
    assert clean_answer("<p>Purchase the given offering.</p>") is None


def test_sentences_do_not_end_at_abbreviations():
    text = "Copies data (e.g. A or B) from Acme Inc. Example to here. Then stops."
    assert sentences(text) == ["Copies data (e.g. A or B) from Acme Inc. Example to here.", "Then stops."]


def test_words():
    assert name_words("BatchCreateDBInstances") == name_words("CreateDBInstance") == ("creat", "db", "instanc")
    assert content_words("Retrieves the policies.") == content_words("Gets a policy.")
    assert content_words("Creates a policy.") != content_words("Deletes a policy.")


@pytest.mark.parametrize(
    ("asked", "other", "wrong"),
    [
        (("CreateHub", "Creates a new hub."), ("DeleteHub", "Deletes the given hub."), True),
        (("GetHub", "Gets the details of a hub."), ("ListHubs", "Lists every hub you own, by page."), False),
        (("GetHub", "Gets the details of a hub."), ("BatchGetHub", "Returns hubs by id at once."), False),
        (("ListHubs", "Lists all of your hubs."), ("ListHubsV2", "Returns a page of hub summaries."), False),
        (("AdminDeleteUser", "Deletes a user profile."), ("DeleteUser", "Removes yourself for good."), False),
        (("CreateHub", "Creates a new hub."), ("PutHub", "Creates or updates a hub."), False),
        (("DeleteHub", "Deletes a hub."), ("DeleteHubs", "Deletes one or more hubs."), False),
        (("StartJob", "Starts a job."), ("StopJob", "Starts a job. Or does it?"), False),  # longer
        (("StartJob", "Starts a job."), ("StopJob", "Stops what StartJob began."), False),  # names it
        (("GetHub", "Gets the details of a hub."), ("GetHubPolicy", "Returns who may publish."), True),
    ],
)  # fmt: skip
def test_wrong_sibling(asked, other, wrong):
    assert domain.is_wrong_sibling(operation(*asked), operation(*other)) is wrong


@pytest.mark.parametrize(
    ("name", "other", "wrong"),
    [
        ("CreateKafkaCluster", ("CreateCluster", "Starts a warehouse with compute nodes."), True),
        ("CreateCluster", ("CreateCluster", "Starts a Redshift warehouse with compute nodes."), True),
        (
            "CreateCluster",
            ("CreateCluster", "Starts a warehouse with compute nodes."),
            False,
        ),  # fair: no service
        ("CreateKafkaCluster", ("CreateCluster", "Creates a cluster."), False),  # nothing new
        ("CreateKafkaCluster", ("CreateCluster", "Creates a new Kafka cluster with two nodes."), False),
        ("CreateKafkaCluster", ("CreateCache", "Starts a Redshift warehouse with compute nodes."), False),
    ],
)
def test_wrong_lookalike(name, other, wrong):
    asked = operation(name, "Creates a new Kafka cluster.", "kafka", "Amazon Kafka")
    assert domain.is_wrong_lookalike(asked, operation(*other, "redshift", "Amazon Redshift")) is wrong


def test_families_join_what_is_near(family):
    for near in (
        ("waf", "wafv2", "waf-regional"), ("lex-runtime", "lexv2-models", "lexv2-runtime"), ("elb", "elbv2"),
        ("apigateway", "apigatewayv2"), ("kinesisanalytics", "kinesisanalyticsv2", "kinesis"),
        ("dynamodb", "dynamodbstreams"), ("bedrock", "bedrock-agent", "bedrock-runtime"),
        ("iot", "iotsitewise", "iot-data", "iotwireless"), ("pinpoint", "pinpoint-email", "ses", "sesv2"),
        ("s3", "s3control", "s3tables"), ("events", "pipes", "scheduler"), ("rds", "docdb", "neptune"),
        ("codeconnections", "codestar-connections"), ("es", "opensearch"), ("sagemaker", "sagemaker-runtime"),
    ):  # fmt: skip
        assert len({family[service] for service in near}) == 1, near
    assert len(set(family.values())) > 150  # chains do not join everything
    assert family["ec2"] != family["s3"] != family["glue"] != family["iam"]


def test_splits_share_no_service_family_or_text(pairs, family):
    seen = {}
    for split, rows in pairs.items():
        services = set(rows["service"]) | {source.split(".")[0] for source in rows["rejected_from"]}
        seen[split] = services, {family[s] for s in services}, {t.lower() for t in texts(rows)}
        seen[split] += ({content_words(text) for text in seen[split][2]},)
    for a, b in (("train", "validation"), ("train", "heldout"), ("validation", "heldout")):
        for left, right in zip(seen[a], seen[b], strict=True):
            assert left and right and not left & right


def test_rows_have_the_preference_format(pairs):
    for rows in pairs.values():
        for row in rows:
            assert [message["role"] for message in row["prompt"]] == ["system", "user"]
            assert row["prompt"][0]["content"] == domain.SYSTEM_PROMPT
            assert f"`{row['operation']}`" in row["prompt"][1]["content"]
            assert [message["role"] for message in row["chosen"] + row["rejected"]] == ["assistant"] * 2
    keys = [(row["service"], row["operation"]) for row in pairs["train"]]
    assert len(keys) == len(set(keys)) > 8000


def test_answers_are_clean(pairs):
    tails = r"for more information|\bsee\b|deprecated|\bpreview release"
    junk = re.compile(r"<[a-z/]|&[a-z]+;|\s\s|:\.$|\.\.$|" + tails, re.IGNORECASE)
    for rows in pairs.values():
        for text in texts(rows):
            assert 4 <= len(text.split()) <= 45, text
            assert text[0].isupper() and text.endswith(".") and not junk.search(text), text
            assert not re.search(r"\b(e\.g|i\.e|vs)\.$", text), text
        for row in rows:
            assert row["operation"] not in row["chosen"][0]["content"]


def test_rejected_is_another_operation_of_the_stated_kind(pairs, family):
    for rows in pairs.values():
        for row in rows:
            service, name = row["rejected_from"].split(".")
            chosen, rejected = (row[c][0]["content"].lower().rstrip(".") for c in ("chosen", "rejected"))
            assert chosen not in rejected and rejected not in chosen
            assert row["operation"] not in row["rejected"][0]["content"]
            assert content_words(chosen) != content_words(rejected)
            if row["rejected_kind"] == "sibling":
                assert service == row["service"] and name != row["operation"]
            else:
                assert family[service] != family[row["service"]]
                assert name_words(name)[0] == name_words(row["operation"])[0]
                ours, theirs = content_words(chosen), content_words(rejected)
                assert len(ours & theirs) / len(ours | theirs) < 0.5


def test_kinds_and_phrasings_are_mixed(pairs):
    assert len(domain.QUESTION_TEMPLATES) >= 6
    patterns = [re.escape(t).replace(r"\{operation\}", r"\w+").replace(r"\{service\}", ".+")
                for t in domain.QUESTION_TEMPLATES]  # fmt: skip
    for split, rows in pairs.items():
        share = list(rows["rejected_kind"]).count("lookalike") / len(rows)
        assert 0.05 < share < 0.15, split
        questions = [row["prompt"][1]["content"] for row in rows]
        for pattern in patterns:
            assert sum(bool(re.fullmatch(pattern, q)) for q in questions) > 0.05 * len(questions)
    # Length must not give the chosen answer away.
    words = {c: [len(m[0]["content"].split()) for m in pairs["train"][c]] for c in ("chosen", "rejected")}
    assert abs(statistics.mean(words["chosen"]) - statistics.mean(words["rejected"])) < 3


def test_same_in_another_process(pairs):
    hash_seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    done = subprocess.run(
        [sys.executable, "-c", HASH_PROGRAM, "0"],
        cwd=Path(domain.__file__).parents[2],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    rows = {split: list(rows) for split, rows in pairs.items()}
    here = hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()
    assert done.stdout.strip() == here


def test_another_seed_splits_otherwise(family):
    operations = read_operations()
    drawn = [domain.assign_splits(operations, family, seed) for seed in (0, 0, 1)]
    heldout = [{name for name, split in splits.items() if split == "heldout"} for splits in drawn]
    assert drawn[0] == drawn[1] and heldout[0] != heldout[2]
    assert all(splits[family["ec2"]] == "train" for splits in drawn)


def test_builds_fast(built):
    assert built[1] < 30


def test_no_models_is_an_error_that_says_the_fix(monkeypatch, tmp_path):
    import botocore

    monkeypatch.setattr(botocore, "__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(FileNotFoundError, match="reinstall botocore"):
        domain.build_domain()
    monkeypatch.setitem(sys.modules, "botocore", None)
    with pytest.raises(ImportError, match="pip install botocore"):
        domain.build_domain()
