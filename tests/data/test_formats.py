"""Preference data as it is published and kept: what is recognised, what is said about it, and what it means."""

import csv
import gc
import gzip
import json
import random
import string
import threading
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import urlsplit

import pyarrow
import pyarrow.parquet
import pytest
from datasets import Dataset, DatasetDict, IterableDataset

from helpers.data.load import load_preferences
from helpers.data.messages import turns
from helpers.data.read import read_file


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def system(text):
    return {"role": "system", "content": text}


def lines(path, *rows):
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


GOOD = {"prompt": "What is S3?", "chosen": "Object storage.", "rejected": "A queue."}
MEANS = {"prompt": [user("What is S3?")], "chosen": [assistant("Object storage.")], "rejected": [assistant("A queue.")]}
TALK = [user("What is S3?"), assistant("A service."), user("What kind?")]

# ── the public sets, by their columns ──

PUBLISHED = {
    "mlabonne/orpo-dpo-mix-40k": (
        {
            "source": "x",
            "chosen": [user("What is S3?"), assistant("Object storage.")],
            "rejected": [user("What is S3?"), assistant("A queue.")],
            "prompt": "What is S3?",
            "question": "What is S3?",
        },
        MEANS,
    ),
    "HuggingFaceH4/ultrafeedback_binarized": (
        {
            "prompt": "What is S3?",
            "prompt_id": "f0",
            "chosen": [user("What is S3?"), assistant("Object storage.")],
            "rejected": [user("What is S3?"), assistant("A queue.")],
            "messages": [user("What is S3?"), assistant("Object storage.")],
            "score_chosen": 8.0,
            "score_rejected": 2.0,
        },
        MEANS,
    ),
    "Anthropic/hh-rlhf": (
        {
            "chosen": "\n\nHuman: What is S3?\n\nAssistant: A service.\n\nHuman: What kind?\n\nAssistant: Storage.",
            "rejected": "\n\nHuman: What is S3?\n\nAssistant: A service.\n\nHuman: What kind?\n\nAssistant: A queue.",
        },
        {"prompt": TALK, "chosen": [assistant("Storage.")], "rejected": [assistant("A queue.")]},
    ),
    "argilla/distilabel-intel-orca-dpo-pairs": (
        {
            "system": "Be brief.",
            "input": "What is S3?",
            "chosen": "Object storage.",
            "rejected": "A queue.",
            "generations": ["Object storage.", "A queue."],
            "order": ["chosen", "rejected"],
            "rating": [9.0, 2.0],
            "status": "unchanged",
        },
        MEANS | {"prompt": [system("Be brief."), user("What is S3?")]},
    ),
    "trl-lib/ultrafeedback_binarized": (
        {
            "chosen": [system("Be brief."), *TALK, assistant("Storage.")],
            "rejected": [system("Be brief."), *TALK, assistant("A queue.")],
            "score_chosen": 8.0,
            "score_rejected": 2.0,
        },
        {
            "prompt": [system("Be brief."), *TALK],
            "chosen": [assistant("Storage.")],
            "rejected": [assistant("A queue.")],
        },
    ),
    "Intel/orca_dpo_pairs": (
        {"system": "", "question": "What is S3?", "chosen": "Object storage.", "rejected": "A queue."},
        MEANS,
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_set_loads_without_options_and_means_the_same(tmp_path, name):
    row, means = PUBLISHED[name]
    path = tmp_path / "train.parquet"
    Dataset.from_list([row, row]).to_parquet(path)
    assert load_preferences(path).to_list() == [means, means]
    assert load_preferences(lines(tmp_path / "d.jsonl", row)).to_list() == [means]
    assert load_preferences(Dataset.from_list([row])).to_list() == [means]


# ── other layouts ──

LAYOUTS = {
    "sharegpt": (
        {
            "conversations": [{"from": "system", "value": "Be brief."}, {"from": "human", "value": "What is S3?"}],
            "chosen": {"from": "gpt", "value": "Object storage."},
            "rejected": {"from": "gpt", "value": "A queue."},
        },
        MEANS | {"prompt": [system("Be brief."), user("What is S3?")]},
        "prompt from conversations, answers from chosen and rejected",
    ),
    "sharegpt, whole conversations": (
        {
            side: [{"from": "human", "value": "What is S3?"}, {"from": "gpt", "value": answer}]
            for side, answer in (("chosen", "Object storage."), ("rejected", "A queue."))
        },
        MEANS,
        "prompt from what both conversations begin with, answers from chosen and rejected",
    ),
    "alpaca": (
        {"instruction": "Explain.", "input": "S3", "output": "", "chosen": "Storage.", "rejected": "A queue."},
        {"prompt": [user("Explain.\nS3")], "chosen": [assistant("Storage.")], "rejected": [assistant("A queue.")]},
        "prompt from instruction and input, answers from chosen and rejected",
    ),
    "openai": (
        {
            "input": {"messages": [user("What is S3?")], "tools": [], "parallel_tool_calls": True},
            "preferred_output": [assistant("Object storage.")],
            "non_preferred_output": [assistant("A queue.")],
        },
        MEANS,
        "prompt from input, answers from preferred_output and non_preferred_output",
    ),
    "prompt as transcript": (
        {"prompt": "\n\nHuman: What is S3?\n\nAssistant:", "chosen": "Object storage.", "rejected": "A queue."},
        MEANS,
        "prompt from prompt, answers from chosen and rejected, Human/Assistant transcripts",
    ),
    "ranked texts": (
        {"instruction": "What is S3?", "responses": ["A queue.", "Object storage.", "A thing."], "scores": [1, 9, 4]},
        MEANS,
        "prompt from instruction, answers from responses, ranked by scores",
    ),
    "ranked objects": (
        {
            "prompt": "What is S3?",
            "completions": [
                {"response": "Object storage.", "overall_score": 9},
                {"response": "A queue.", "overall_score": 1},
            ],
        },
        MEANS,
        "prompt from prompt, answers from completions, ranked by the score in each",
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_is_recognised_and_said(tmp_path, capsys, name):
    row, means, says = LAYOUTS[name]
    assert load_preferences(lines(tmp_path / "d.jsonl", row)).to_list() == [means]
    assert capsys.readouterr().out.startswith(f"d.jsonl: 1 pairs ({says})\n")


def test_single_answers_are_paired_by_prompt(tmp_path, capsys):
    rows = [
        {"prompt": "q", "completion": answer, "label": label}
        for answer, label in (("a", True), ("b", False), ("c", True), ("d", 0), ("e", "up"))
    ]
    rows += [{"prompt": "other", "completion": "f", "label": "thumbs down"}]
    data = load_preferences(lines(tmp_path / "kto.jsonl", *rows))
    assert [[pair[side][0]["content"] for side in ("prompt", "chosen", "rejected")] for pair in data] == [
        ["q", "a", "b"],
        ["q", "c", "d"],
    ]
    told = capsys.readouterr().out
    assert "answers from completion, good or bad by label, paired by prompt" in told
    assert "2 single answers have no partner of the other label for their prompt" in told


def test_ranked_answers_give_the_best_against_the_worst_or_all_pairs_above_a_gap(tmp_path, capsys):
    rows = [
        {"prompt": "q", "responses": ["a", "b", "c"], "scores": [1.0, 5.0, 4.5]},
        {"prompt": "r", "responses": ["x", "y"], "scores": [2, 2]},
    ]
    path = lines(tmp_path / "d.jsonl", *rows)

    def answers(**options):
        return [
            (pair["chosen"][0]["content"], pair["rejected"][0]["content"]) for pair in load_preferences(path, **options)
        ]

    assert answers() == [("b", "a")]
    assert "1 rows without two answers of different scores give no pair" in capsys.readouterr().out
    assert answers(min_gap=1) == [("b", "a"), ("c", "a")]
    assert answers(min_gap=0) == [("b", "c"), ("b", "a"), ("c", "a")]


def test_columns_says_what_no_name_says(tmp_path):
    row = {"ask": "What is S3?", "a": "Object storage.", "b": "A queue.", "who": "Be brief."}
    told = {"prompt": "ask", "chosen": "a", "rejected": "b", "system": "who"}
    data = load_preferences(lines(tmp_path / "d.jsonl", row), columns=told)
    assert data.to_list() == [MEANS | {"prompt": [system("Be brief."), user("What is S3?")]}]


def test_a_prompt_column_that_differs_from_the_conversations_is_counted(tmp_path, capsys):
    row = PUBLISHED["mlabonne/orpo-dpo-mix-40k"][0] | {"prompt": "Something else"}
    assert load_preferences(lines(tmp_path / "d.jsonl", row)).to_list() == [MEANS]
    assert "1 rows have other text in `prompt` than in their conversations, which are used" in capsys.readouterr().out


def test_a_prompt_column_that_begins_earlier_than_the_conversations_is_kept(tmp_path, capsys):
    row = PUBLISHED["mlabonne/orpo-dpo-mix-40k"][0] | {"prompt": [system("Be brief."), user("What is S3?")]}
    means = MEANS | {"prompt": [system("Be brief."), user("What is S3?")]}
    assert load_preferences(lines(tmp_path / "d.jsonl", row)).to_list() == [means]
    other = row | {"prompt": [system("Be brief."), user("What is SQS?")]}
    assert load_preferences(lines(tmp_path / "d.jsonl", other)).to_list() == [MEANS]
    assert "1 rows have other text in `prompt` than in their conversations" in capsys.readouterr().out


def test_the_shared_beginning_of_conversations_is_trl_s_prompt():
    """TRL's extract_prompt is right for message lists, and no reference for text."""
    data_utils = pytest.importorskip("trl.data_utils")
    row = PUBLISHED["trl-lib/ultrafeedback_binarized"][0]
    theirs = data_utils.extract_prompt({side: row[side] for side in ("chosen", "rejected")})
    assert load_preferences([row]).to_list() == [theirs]


def test_transcripts_keep_line_breaks_and_colons():
    text = "\n\nHuman: Human: a\nb\n\nAssistant: Say:\n\n- Assistant: x\n\nHuman: c\n\nAssistant:"
    assert turns(text) == [user("Human: a\nb"), assistant("Say:\n\n- Assistant: x"), user("c"), assistant("")]


# ── kinds of files ──


def write_csv(path, rows, delimiter=","):
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def write_arrow(path, rows, kind):
    table = pyarrow.Table.from_pylist(rows)
    with kind(str(path), table.schema) as writer:
        writer.write_table(table)


UGLY = GOOD | {"chosen": 'Object; "storage",\nof a kind\t– größer.'}
FILES = {
    "d.json": lambda path: path.write_text(json.dumps([UGLY, UGLY], indent=1)),
    "e.json": lambda path: lines(path, UGLY, UGLY),
    "d.ndjson": lambda path: lines(path, UGLY, UGLY),
    "d.csv": lambda path: write_csv(path, [UGLY, UGLY]),
    "e.csv": lambda path: write_csv(path, [UGLY, UGLY], ";"),
    "d.tsv": lambda path: write_csv(path, [UGLY, UGLY], "\t"),
    "d.parquet": lambda path: pyarrow.parquet.write_table(pyarrow.Table.from_pylist([UGLY, UGLY]), path),
    "d.arrow": lambda path: write_arrow(path, [UGLY, UGLY], pyarrow.ipc.new_file),
    "e.arrow": lambda path: write_arrow(path, [UGLY, UGLY], pyarrow.ipc.new_stream),
    "d.jsonl.gz": lambda path: path.write_bytes(gzip.compress(f"{json.dumps(UGLY)}\n".encode() * 2)),
    "d.jsonl.zst": lambda path: path.write_bytes(
        pyarrow.compress(f"{json.dumps(UGLY)}\n".encode() * 2, codec="zstd", asbytes=True)
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_means_the_same(tmp_path, name):
    FILES[name](tmp_path / name)
    means = MEANS | {"chosen": [assistant(UGLY["chosen"])]}
    assert load_preferences(tmp_path / name).to_list() == [means, means]


def test_a_data_set_on_disk_in_memory_and_by_split(tmp_path):
    data = DatasetDict(train=Dataset.from_list([GOOD, GOOD]), test=Dataset.from_list([GOOD]))
    data.save_to_disk(tmp_path / "saved")
    for source in (data, tmp_path / "saved"):
        assert load_preferences(source).to_list() == [MEANS, MEANS]
        assert load_preferences(source, split="heldout").to_list() == [MEANS]
    assert load_preferences([GOOD]).to_list() == load_preferences(data["test"].to_iterable_dataset()).to_list()


def test_a_folder_of_files_that_name_no_split_is_for_training(tmp_path):
    for name in ("may.jsonl", "june.jsonl"):
        lines(tmp_path / name, GOOD)
    write_csv(tmp_path / "july.csv", [GOOD])
    assert load_preferences(tmp_path).to_list() == [MEANS] * 3


@pytest.mark.parametrize("url", ["memory://bucket/d.jsonl", "memory://bucket/e.jsonl?token=secret"])
def test_a_url_is_fetched_through_fsspec(url, tmp_path, monkeypatch):
    import fsspec

    monkeypatch.setenv("WORKSHOP_CACHE", str(tmp_path))
    with fsspec.open(url, "wb") as file:
        file.write(json.dumps(GOOD).encode())
    assert load_preferences(url).to_list() == [MEANS]


def test_a_source_larger_than_memory_should_hold_is_read_twice_and_kept_on_disk(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORKSHOP_CACHE", str(tmp_path / "cache"))
    call = assistant("") | {"tool_calls": [{"function": {"name": "f", "arguments": {"day": None}}}]}
    rows = [GOOD | {"prompt": f"q{i}"} for i in range(300)] + [GOOD | {"prompt": [user("q"), call, user("r")], "id": 1}]
    path = lines(tmp_path / "d.jsonl", *rows)
    in_memory = load_preferences(path)
    told = capsys.readouterr().out
    monkeypatch.setattr("helpers.data.build.LARGE", 0)
    for _ in ("written", "from the cache"):
        on_disk = load_preferences(path)
        assert on_disk.to_list() == in_memory.to_list() and on_disk.cache_files and not in_memory.cache_files
        assert on_disk.features == in_memory.features
        assert capsys.readouterr().out == told
    lines(path, GOOD)
    assert load_preferences(path).to_list() == [MEANS], "a changed file is read again"


PACKED = {
    "d.jsonl.gz": gzip.compress,
    "d.jsonl.zst": lambda data: pyarrow.compress(data, codec="zstd", asbytes=True),
    "d.jsonl": bytes,
}


@pytest.mark.parametrize("name", PACKED)
def test_a_file_counts_as_large_by_what_it_holds(tmp_path, name):
    content = (json.dumps(GOOD) + "\n").encode() * 2000
    (tmp_path / name).write_bytes(PACKED[name](content))
    assert read_file(tmp_path / name).bytes == len(content)


def test_a_parquet_file_counts_with_the_columns_that_are_read(tmp_path):
    texts = ["".join(random.Random(row).choices(string.ascii_letters, k=500)) for row in range(200)]
    table = pyarrow.table({"chosen": texts, "scan": [text * 9 for text in texts]})
    pyarrow.parquet.write_table(table, tmp_path / "d.parquet", compression="zstd")
    assert 100_000 < read_file(tmp_path / "d.parquet", {"chosen"}).bytes < 150_000
    assert read_file(tmp_path / "d.parquet").bytes > 1_000_000 > (tmp_path / "d.parquet").stat().st_size


def test_a_packed_file_that_is_large_once_unpacked_is_kept_on_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKSHOP_CACHE", str(tmp_path / "cache"))
    content = "\n".join(json.dumps(GOOD | {"prompt": f"q{i}"}) for i in range(500)).encode()
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress(content))
    assert (tmp_path / "d.jsonl.gz").stat().st_size < len(content) / 4
    assert not load_preferences(tmp_path / "d.jsonl.gz").cache_files
    monkeypatch.setattr("helpers.data.build.LARGE", len(content) // 2)
    assert load_preferences(tmp_path / "d.jsonl.gz").cache_files


def test_a_stream_is_taken_once_row_by_row_and_kept_on_disk_where_it_is_large(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORKSHOP_CACHE", str(tmp_path / "cache"))
    taken = []

    def rows():
        for number in range(300):
            taken.append(number)
            yield GOOD | {"prompt": f"q{number}", "when": datetime(2026, 1, 1), "id": 10**30}

    stream = IterableDataset.from_generator(rows)
    in_memory = load_preferences(stream)
    told = capsys.readouterr().out
    assert told == (
        "the data set: 300 pairs (prompt from prompt, answers from chosen and rejected)\n"
        "the data set: nothing reads id, when; left out\n"
    )
    monkeypatch.setattr("helpers.data.build.LARGE", 0)
    taken.clear()
    on_disk = load_preferences(stream)
    assert taken == list(range(300)), "read twice, asked for once"
    assert on_disk.to_list() == in_memory.to_list() and on_disk.cache_files and not in_memory.cache_files
    assert capsys.readouterr().out == told
    assert [row["prompt"][0]["content"] for row in on_disk] == [f"q{number}" for number in range(300)]
    gc.collect()
    assert not list((tmp_path / "cache").glob("stream-*")), "what was kept of the stream is gone"


def test_a_bad_row_of_a_stream_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKSHOP_CACHE", str(tmp_path / "cache"))
    stream = Dataset.from_list([GOOD, GOOD | {"chosen": " "}]).to_iterable_dataset()
    with pytest.raises(ValueError, match="the data set: row 1, chosen: the response is empty"):
        load_preferences(stream)


# ── over http, from a server on loopback ──


class Files(BaseHTTPRequestHandler):
    """Serves what `served` holds; /moved leads on; what is not there is a 404, /secret a 403."""

    served: ClassVar[dict[str, bytes]] = {}
    asked: ClassVar[list[str]] = []

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = urlsplit(self.path).path
        self.asked.append(self.command + path)
        data = self.served.get(path)
        self.send_response(302 if path == "/moved.jsonl" else 403 if path == "/secret.jsonl" else 200 if data else 404)
        if path == "/moved.jsonl":
            self.send_header("Location", "/d.jsonl")
        self.send_header("Content-Length", str(len(data or b"")))
        self.end_headers()
        if data and self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKSHOP_CACHE", str(tmp_path / "cache"))
    Files.served, Files.asked = {}, []
    with ThreadingHTTPServer(("127.0.0.1", 0), Files) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{http.server_port}"
        http.shutdown()


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_is_fetched_over_http(server, tmp_path, name):
    FILES[name](tmp_path / name)
    Files.served[f"/{name}"] = (tmp_path / name).read_bytes()
    means = MEANS | {"chosen": [assistant(UGLY["chosen"])]}
    assert load_preferences(f"http://{server}/{name}?token=secret").to_list() == [means, means]


def test_a_file_is_fetched_once_and_its_name_says_its_split(server):
    Files.served["/faq-test.jsonl"] = json.dumps(GOOD).encode()
    for _ in range(2):
        assert load_preferences(f"http://{server}/faq-test.jsonl", split="heldout").to_list() == [MEANS]
    assert Files.asked.count("GET/faq-test.jsonl") == 1
    Files.served["/d.jsonl"] = json.dumps(GOOD).encode()
    assert load_preferences(f"http://{server}/moved.jsonl").to_list() == [MEANS]


@pytest.mark.parametrize("name", ["none.jsonl", "secret.jsonl"])
def test_what_a_server_refuses_is_one_line_without_secrets(server, name):
    with pytest.raises(ConnectionError, match=rf"http://127\.0\.0\.1/{name}: can't be fetched .*check") as error:
        load_preferences(f"http://ann:hunter2@{server}/{name}?token=abc")
    assert "\n" not in str(error.value) and "hunter2" not in str(error.value) and "abc" not in str(error.value)


def test_a_server_that_is_not_there_is_one_line(server):
    with pytest.raises(ConnectionError, match=r"http://127\.0\.0\.1/d\.jsonl: can't be fetched") as error:
        load_preferences("http://127.0.0.1:9/d.jsonl")
    assert "\n" not in str(error.value)


def test_a_bad_row_that_was_fetched_is_named_with_its_file(server):
    Files.served["/d.jsonl"] = json.dumps(GOOD | {"chosen": " "}).encode()
    with pytest.raises(ValueError, match=r"d\.jsonl: row 0, chosen: the response is empty"):
        load_preferences(f"http://{server}/d.jsonl")
