"""Small real things that several tests share: the workshop's tokenizer, a two-layer model, four pairs."""

import os
import time

import pytest
import setuptools  # noqa: F401  (torch.compile imports it, which fails once the standard library's distutils is loaded)
from datasets import Dataset

from helpers.data.tokenize import tokenize_preferences
from helpers.training.base_model import SMOKE, load_tokenizer, smoke_model

for name in ("WORKSHOP_JOBS_ROLE", "WORKSHOP_JOBS_URL"):  # who has an account: no test reaches it
    os.environ.pop(name, None)

ANSWERS = {
    "What does `ListTopics` do?": ("Lists the topics in an MSK cluster.", "Lists channels."),
    "What is `PutMetricStream` for?": (
        "Creates or updates a metric stream.",
        "Deletes the metric stream that you name.",
    ),
    "Explain `StartJobRun`.": (
        "Starts a job run.",
        "Stops one or more job runs for a given job definition in the catalog.",
    ),
    "Describe the operation `GetQueueUrl` of Amazon SQS.": (
        "Returns the URL of a queue.",
        "Deletes 3 messages at once.",
    ),
}


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """transformers leaves the precision of the last config in the environment, where the next test would find it."""
    os.environ.pop("ACCELERATE_MIXED_PRECISION", None)


LONGEST_FIRST = ("test_attendee.py", "test_notebooks.py")


def pytest_collection_modifyitems(items):
    """With two files at a time, the longest must not begin last."""
    items.sort(key=lambda item: item.path.name not in LONGEST_FIRST)


QUICK = 0.15  # seconds in which a view answers on two cores


def assert_quick(*actions) -> None:
    """The best of several tries takes QUICK at most: in the processor's time, to which other work adds little.

    By the clock it may take longer, where other tests share the machine, but nothing may wait.
    """
    tries = []
    for action in actions * -(-12 // len(actions)):
        began, by_clock = time.process_time(), time.perf_counter()
        action()
        tries.append((time.process_time() - began, time.perf_counter() - by_clock))
    assert min(tries)[0] < QUICK and min(each for _, each in tries) < 5 * QUICK, tries


def make_pairs(answers=ANSWERS) -> Dataset:
    """Conversational preference rows from {question: (chosen, rejected)}."""
    return Dataset.from_list(
        [
            {
                "prompt": [{"role": "user", "content": question}],
                "chosen": [{"role": "assistant", "content": chosen}],
                "rejected": [{"role": "assistant", "content": rejected}],
            }
            for question, (chosen, rejected) in answers.items()
        ]
    )


def trl_orpo():
    """TRL's (ORPOConfig, ORPOTrainer), from where this TRL keeps them."""
    try:
        from trl import ORPOConfig, ORPOTrainer
    except ImportError:  # trl 1
        from trl.experimental.orpo import ORPOConfig, ORPOTrainer
    return ORPOConfig, ORPOTrainer


@pytest.fixture(scope="session")
def tokenizer():
    return load_tokenizer(SMOKE)


@pytest.fixture
def model():
    return smoke_model(seed=0)


@pytest.fixture(scope="session")
def pairs():
    return make_pairs()


@pytest.fixture(scope="session")
def tokenized(pairs, tokenizer):
    return tokenize_preferences(pairs, tokenizer, max_length=128)
