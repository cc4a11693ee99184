"""Bad inputs as people have them. Each is refused in one line that names the file, the place and the fix."""

import gzip
import io
import json
import re
import zipfile

import pyarrow
import pyarrow.parquet
import pytest
from datasets import Dataset, DatasetDict
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.data.load import load_preferences

GOOD = {"prompt": "What is S3?", "chosen": "Object storage.", "rejected": "A queue."}
LINE = json.dumps(GOOD).encode()
MESSAGES = 'give a list of {"role", "content"} messages'


def jsonl(*rows) -> bytes:
    return b"\n".join(row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows)


def but(**changes) -> bytes:
    """A good row, then one with these changes."""
    return jsonl(GOOD, GOOD | changes)


def without(column: str) -> dict:
    return {name: value for name, value in GOOD.items() if name != column}


def said(role: str, content, **more) -> dict:
    return {"role": role, "content": content} | more


def talk(*parts) -> list[dict]:
    return [said(role, text) for role, text in zip(parts[::2], parts[1::2], strict=True)]


def parquet(rows, **options) -> bytes:
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), buffer, **options)
    return buffer.getvalue()


def arrow(rows) -> bytes:
    sink = pyarrow.BufferOutputStream()
    table = pyarrow.Table.from_pylist(rows)
    with pyarrow.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("d.jsonl", LINE)
    return buffer.getvalue()


def broken_gzip() -> bytes:
    data = bytearray(gzip.compress(LINE * 50))
    data[20:30] = b"x" * 10
    return bytes(data)


RANKED = {"prompt": "q", "responses": ["a", "b"], "scores": [1, 2]}
THUMBS = {"prompt": "q", "completion": "a", "label": True}
HH = {"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"}
MEMORY = {"chosen": talk("user", "q", "assistant", "a"), "rejected": talk("user", "q", "assistant", "b")}

# name: (file, what it holds, what is said)
FILES = {
    # text that can't be read
    "windows-1252": (
        "d.jsonl",
        LINE + b'\n{"prompt": "Gr\xf6\xdfe"}',
        r"d\.jsonl, line 2: byte 0xf6 is not UTF-8; save the",
    ),
    "windows-1252 csv": (
        "d.csv",
        b"prompt,chosen,rejected\nGr\xf6\xdfe,a,b\n",
        r"d\.csv, line 2: byte 0xf6 is not UTF-8",
    ),
    "utf-16 without mark": ("d.jsonl", LINE.decode().encode("utf-16-le"), r"d\.jsonl, line 1: not valid JSON"),
    "torn utf-16": ("d.jsonl", LINE.decode().encode("utf-16")[:-1], r"d\.jsonl, line 1: byte 0x.. is not UTF-16"),
    "half an emoji": (
        "d.jsonl",
        jsonl(b'{"prompt": "\\ud83d", "chosen": "b", "rejected": "c"}'),
        "line 1: half a character",
    ),
    "half an emoji in an array": (
        "d.json",
        b'[{"prompt": "\\ud83d", "chosen": "b", "rejected": "c"}]',
        "element 0: half a",
    ),
    "torn gzip": (
        "d.jsonl.gz",
        gzip.compress(LINE * 99, mtime=0)[:30],
        r"d\.jsonl\.gz: not a whole gzip file .*; pack it again",
    ),
    "broken gzip": ("d.jsonl.gz", broken_gzip(), r"d\.jsonl\.gz: not a whole gzip file"),
    "gzip of windows-1252": ("d.jsonl.gz", gzip.compress(b'{"prompt": "\xf6"}'), r"line 1: byte 0xf6 is not UTF-8"),
    "torn zstd": ("d.jsonl.zst", pyarrow.compress(LINE, "zstd", asbytes=True)[:-5], "not a whole zstd file"),
    "zip archive": (
        "d.jsonl",
        zipped(),
        r"d\.jsonl: a zip archive or an Excel sheet; unpack it, or save the sheet as CSV",
    ),
    "pickle": ("d.jsonl", b"\x80\x05\x95\x00", r"d\.jsonl, line 1: byte 0x80 is not UTF-8"),
    "image": ("d.jsonl", b"\x89PNG\r\n\x1a\n", r"d\.jsonl, line 1: byte 0x89 is not UTF-8"),
    "web page": ("d.jsonl", b"<!doctype html>", r"d\.jsonl, line 1: not valid JSON \(Expecting value at character 0\)"),
    "git lfs pointer": (
        "d.jsonl",
        b"version https://git-lfs.github.com/spec/v1\n",
        r"d\.jsonl, line 1: not valid JSON",
    ),
    # nothing in it
    "empty file": (
        "d.jsonl",
        b"",
        r"d\.jsonl holds no rows: write one JSON object a line, with prompt, chosen, rejected",
    ),
    "blank lines": ("d.jsonl", b"\n \n\r\n", r"d\.jsonl holds no rows"),
    "byte-order mark alone": ("d.jsonl", b"\xef\xbb\xbf", r"d\.jsonl holds no rows"),
    "empty array": ("d.json", b"[]", r"d\.json holds no rows"),
    "csv of a head alone": ("d.csv", b"prompt,chosen,rejected\n", r"d\.csv holds no rows"),
    "empty csv": ("d.csv", b"", r"d\.csv holds no rows"),
    "empty parquet": ("d.parquet", b"", r"d\.parquet: not a whole Parquet file"),
    "parquet without its end": ("d.parquet", parquet([GOOD])[:40], "not a whole Parquet file"),
    # JSON
    "torn line": ("d.jsonl", LINE + b'\n{"prompt": "x', r"d\.jsonl, line 2: not valid JSON \(Unterminated string"),
    "array in json lines": (
        "d.jsonl",
        jsonl([GOOD]),
        r"line 1: a list; write a JSON object \(one array .* \.json file\)",
    ),
    "pretty json": ("d.jsonl", json.dumps(GOOD, indent=1).encode(), r"d\.jsonl, line 1: not valid JSON"),
    "number as a row": ("d.jsonl", jsonl(GOOD, b"7"), r"d\.jsonl, line 2: a int; write a JSON object"),
    "string as a row": ("d.jsonl", jsonl(b'"x"'), r"d\.jsonl, line 1: a str; write a JSON object"),
    "null as a row": ("d.jsonl", jsonl(b"null"), r"d\.jsonl, line 1: a NoneType; write a JSON object"),
    "two objects on a line": ("d.jsonl", LINE + LINE, r"d\.jsonl, line 1: not valid JSON \(Extra data"),
    "comma after each line": ("d.jsonl", LINE + b",\n" + LINE, r"d\.jsonl, line 1: not valid JSON \(Extra data"),
    "single quotes": ("d.jsonl", str(GOOD).encode(), r"d\.jsonl, line 1: not valid JSON \(Expecting property name"),
    "too deep": ("d.jsonl", b"[" * 100_000, "line 1: lists within lists too deep to read; write one flat JSON object"),
    "endless number": (
        "d.jsonl",
        b'{"prompt": ' + b"9" * 5000 + b"}",
        "line 1: a number of too many digits; write it as a",
    ),
    "torn array": ("d.json", b"[" + LINE, r"d\.json: not valid JSON .*; write one array of JSON objects"),
    "array of strings": ("d.json", b'["a"]', r"d\.json, element 0: a str; write a JSON object"),
    "csv called json": ("d.json", b"prompt,chosen,rejected\na,b,c", r"d\.json, line 1: not valid JSON"),
    # CSV
    "csv with too many cells": (
        "d.csv",
        b"prompt,chosen,rejected\na,b,c,d",
        r"d\.csv, line 2: 4 cells for 3 columns; put text",
    ),
    "csv with too few cells": (
        "d.csv",
        b"prompt,chosen,rejected\na,b,c\na,b",
        r"d\.csv, line 3: 2 cells for 3 columns",
    ),
    "csv with an open quote": (
        "d.csv",
        b'prompt,chosen,rejected\n"a,b,c',
        r"d\.csv: not a table \(unexpected end of data\)",
    ),
    "csv with a column twice": (
        "d.csv",
        b"prompt,chosen,chosen\na,b,c",
        r"d\.csv, line 1: the column 'chosen' stands there",
    ),
    "csv without a head": (
        "d.csv",
        b"What is S3?,Storage.,A queue.\na,b,c",
        r"d\.csv: no chosen, rejected among its columns",
    ),
    "csv with an empty cell": (
        "d.csv",
        b"prompt,chosen,rejected\na,b,",
        r"d\.csv: row 0, rejected: the response is empty",
    ),
    "excel's head in its language": (
        "d.csv",
        b"Frage;gut;schlecht\na;b;c",
        r"no chosen, rejected among .* \(Frage, gut, schlecht\)",
    ),
    # Parquet and Arrow
    "torn parquet": ("d.parquet", parquet([GOOD])[:-9], r"d\.parquet: not a whole Parquet file .*; write it again"),
    "text called parquet": ("d.parquet", LINE, r"d\.parquet: not a whole Parquet file"),
    "torn arrow": ("d.arrow", arrow([GOOD])[:60], r"d\.arrow: not a whole Arrow file"),
    "text called arrow": ("d.arrow", LINE, r"d\.arrow: not a whole Arrow file"),
    "parquet of numbers": (
        "d.parquet",
        parquet([GOOD | {"chosen": 1}]),
        r"d\.parquet: row 0, chosen: is int or empty; give a",
    ),
    "parquet of bytes": (
        "d.parquet",
        parquet([GOOD | {"chosen": b"x"}]),
        r"d\.parquet: row 0, chosen: is bytes or empty",
    ),
    "parquet without rejected": (
        "d.parquet",
        parquet([without("rejected")]),
        r"no rejected among its columns \(prompt, chosen\)",
    ),
    # columns
    "no rejected anywhere": (
        "d.jsonl",
        jsonl(without("rejected")),
        r"d\.jsonl: no rejected among .*; add or rename the column",
    ),
    "no rejected in one row": (
        "d.jsonl",
        jsonl(GOOD, without("rejected")),
        r"d\.jsonl, line 2: no rejected; add the column",
    ),
    "no prompt in one row": ("d.jsonl", jsonl(GOOD, without("prompt")), r"d\.jsonl, line 2: no prompt; add the column"),
    "no prompt anywhere": (
        "d.jsonl",
        jsonl(without("prompt")),
        r"no prompt among its columns .*columns=\{\"prompt\": \"questi",
    ),
    "names in capitals": (
        "d.jsonl",
        jsonl({"Prompt": "a", "Chosen": "b", "Rejected": "c"}),
        r"no chosen, rejected among .*Prompt",
    ),
    "two prompts": (
        "d.jsonl",
        jsonl(without("prompt") | {"question": "a", "query": "b"}),
        r"d\.jsonl: the prompt may be 'question' or 'query': say which, as in columns=\{\"prompt\": \"question\"\}",
    ),
    "two pairs of answers": (
        "d.jsonl",
        jsonl({"prompt": "q", "better": "a", "worse": "b", "winner": "c", "loser": "d"}),
        r"the answers may be 'better' and 'worse' or 'winner' and 'loser': say which",
    ),
    "two lists of answers": (
        "d.jsonl",
        jsonl(RANKED | {"answers": ["c"]}),
        "the answers may be 'responses' or 'answers'",
    ),
    "two systems": (
        "d.jsonl",
        jsonl(GOOD | {"system_prompt": "a", "system": 3}),
        "row 0, system: is int; write a string",
    ),
    "supervised data": ("d.jsonl", jsonl({"prompt": "q", "completion": "a"}), r"no chosen, rejected among its columns"),
    # cells
    "null cell": ("d.jsonl", but(rejected=None), r"d\.jsonl: row 1, rejected: is NoneType or empty; give a list"),
    "not a number": ("d.jsonl", but(rejected=float("nan")), "row 1, rejected: is float or empty"),
    "number": ("d.jsonl", but(chosen=42), "row 1, chosen: is int or empty"),
    "true": ("d.jsonl", but(chosen=True), "row 1, chosen: is bool or empty"),
    "empty list": ("d.jsonl", but(chosen=[]), "row 1, chosen: is list or empty"),
    "one message, no list": ("d.jsonl", but(chosen=said("assistant", "x")), "row 1, chosen: is dict or empty"),
    "list of strings": ("d.jsonl", but(chosen=["x"]), r"row 1, chosen: holds \"?'x'"),
    "message without content": ("d.jsonl", but(chosen=[{"role": "assistant"}]), "row 1, chosen: holds .*both strings"),
    "content as null": ("d.jsonl", but(chosen=[said("assistant", None)]), "row 1, chosen: holds"),
    "content as number": ("d.jsonl", but(chosen=[said("assistant", 42)]), "row 1, chosen: holds"),
    "content in parts": (
        "d.jsonl",
        but(prompt=[said("user", [{"type": "text", "text": "q"}])]),
        "row 1, prompt: holds",
    ),
    "name as number": (
        "d.jsonl",
        but(prompt=[said("user", "q", name=3)]),
        "row 1, prompt: has a message whose name is int",
    ),
    "unknown role": (
        "d.jsonl",
        but(prompt=talk("human", "q")),
        "row 1, prompt: has the role 'human'; write one of system",
    ),
    "role in capitals": ("d.jsonl", but(prompt=talk("User", "q")), "row 1, prompt: has the role 'User'"),
    "unknown speaker": (
        "d.jsonl",
        but(prompt=[{"from": "alice", "value": "q"}]),
        "row 1, prompt: has a message from 'alice'",
    ),
    "speaker without value": ("d.jsonl", but(prompt=[{"from": "human"}]), "row 1, prompt: holds"),
    "prefilled answer": (
        "d.jsonl",
        but(prompt=talk("user", "q", "assistant", "Sure,")),
        "row 1, prompt: ends with the assist",
    ),
    "user's turn in an answer": (
        "d.jsonl",
        but(chosen=talk("assistant", "a", "user", "b", "assistant", "c")),
        "row 1, chosen: has a turn of the role 'user', which would be learnt as the assistant's; move all turns before",
    ),
    "answer that ends with the user": (
        "d.jsonl",
        but(chosen=talk("assistant", "a", "user", "b")),
        "chosen: has a turn of the",
    ),
    "answer by the user": ("d.jsonl", but(rejected=talk("user", "a")), "row 1, rejected: starts with the role 'user'"),
    "empty answer": (
        "d.jsonl",
        but(chosen="  \n"),
        "row 1, chosen: the response is empty; write an answer or drop the row",
    ),
    "equal answers": ("d.jsonl", but(chosen="A queue."), "row 1, rejected: equals the chosen response"),
    "prompt in the answer": (
        "d.jsonl",
        but(prompt="What does S3 do?", chosen="What does S3 do? It."),
        "chosen: repeats the pr",
    ),
    "system as number": ("d.jsonl", but(system=3), "row 1, system: is int; write a string"),
    "system twice": (
        "d.jsonl",
        but(system="a", prompt=talk("system", "b", "user", "c")),
        "row 1, system: the prompt has a",
    ),
    "tools as text": ("d.jsonl", but(tools="none"), "row 1, tools: is text that is no JSON; give a list of tools"),
    "tools as dict": ("d.jsonl", but(tools={"a": 1}), "row 1, tools: is dict; give a list of tools"),
    "template arguments as list": (
        "d.jsonl",
        but(chat_template_kwargs=[1]),
        "row 1, chat_template_kwargs: is list; give a dict",
    ),
    # layouts
    "one row is no transcript": (
        "d.jsonl",
        jsonl(HH, HH, HH | {"chosen": "a"}),
        "row 2, chosen: is no transcript, unlike other",
    ),
    "transcript without an answer": (
        "d.jsonl",
        jsonl(HH, HH | {"chosen": "\n\nHuman: q\n\nAssistant:"}),
        "row 1, chosen: the resp",
    ),
    "equal conversations": (
        "d.jsonl",
        jsonl(MEMORY | {"rejected": MEMORY["chosen"]}),
        "row 0, rejected: equals the chosen",
    ),
    "one answer alone": (
        "d.jsonl",
        jsonl(MEMORY, MEMORY | {"chosen": "a"}),
        "row 1, prompt: the answers are no conversations",
    ),
    "scores too few": (
        "d.jsonl",
        jsonl(RANKED | {"scores": [1]}),
        "row 0, scores: 1 for 2 answers; give a list with one score",
    ),
    "scores as text": (
        "d.jsonl",
        jsonl(RANKED | {"scores": ["high", "low"]}),
        "row 0, scores: holds 'high'; give numbers",
    ),
    "scores that tie": ("d.jsonl", jsonl(RANKED | {"scores": [1, 1]}), r"d\.jsonl: gives no pair"),
    "answers without scores": (
        "d.jsonl",
        jsonl({"prompt": "q", "responses": ["a"]}),
        "row 0, answers: an answer without its score",
    ),
    "label that is neither": (
        "d.jsonl",
        jsonl(THUMBS | {"label": "maybe"}),
        "row 0, label: holds 'maybe'; give true or false",
    ),
    "labels of one kind": ("d.jsonl", jsonl(THUMBS, THUMBS), r"d\.jsonl: gives no pair"),
}


def refused(source, kind=ValueError, **options) -> str:
    """The message of the refusal, which is one line of our own."""
    with pytest.raises(kind) as caught:
        load_preferences(source, **options)
    assert type(caught.value) is kind and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", FILES)
def test_a_bad_file_is_refused_in_one_line(tmp_path, name):
    file, content, says = FILES[name]
    (tmp_path / file).write_bytes(content)
    message = refused(tmp_path / file)

    assert re.search(says, message), message
    assert file in message


@pytest.mark.parametrize(
    ("second", "place", "said"),
    [
        (b'{"prompt": "x', "line 2", ""),
        (GOOD | {"rejected": " "}, "row 1, rejected", " (the first row is row 0)"),
    ],
    ids=["a line", "a row"],
)
def test_two_faults_in_one_place_say_how_they_count(tmp_path, second, place, said):
    """A line that is no JSON is found by an editor's number; a row by Python's, as in the data set."""
    (tmp_path / "d.jsonl").write_bytes(jsonl(GOOD, second))
    message = refused(tmp_path / "d.jsonl")
    assert place in message and message.endswith(said) and ("row 0" in message) == bool(said)


OPTIONS = {
    "gap without scores": ({"min_gap": 1}, "d.jsonl: min_gap is for a list of answers with scores; leave it out"),
    "no pairs": ({"limit": 0}, "0 pairs were asked for: give at least 1"),
    "unknown split": (
        {"split": "heldout"},
        "d.jsonl is one file, whose rows are for training: for the split 'heldout'",
    ),
    "unknown key of columns": (
        {"columns": {"question": "prompt"}},
        "d.jsonl: columns has the key 'question': give one of pro",
    ),
    "column that is not there": (
        {"columns": {"prompt": "ask"}},
        "d.jsonl: columns names 'ask' for prompt, which is not among",
    ),
    "column named twice": (
        {"columns": {"chosen": "prompt", "rejected": "prompt"}},
        "d.jsonl: columns names 'prompt' twice",
    ),
    "split by a column that is not there": ({"split_by": "customer"}, "d.jsonl: row 0, customer: is empty or missing"),
    "split of one row": (
        {"split_by": "prompt", "split": "heldout"},
        "d.jsonl: none of 1 pairs falls into the split 'heldout'",
    ),
    "system text without a user": (
        {"system_in_user": True},
        "d.jsonl: row 0, prompt: the system text has no user message",
    ),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_a_bad_option_is_refused_in_one_line(tmp_path, name):
    options, says = OPTIONS[name]
    row = GOOD | {"prompt": talk("system", "Be brief.")} if "system_in_user" in options else GOOD
    (tmp_path / "d.jsonl").write_bytes(jsonl(row))
    assert says in refused(tmp_path / "d.jsonl", **options)


def test_sources_that_are_none(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKSHOP_CACHE", str(tmp_path / "cache"))
    assert "no preference data at" in refused(tmp_path / "none.jsonl", FileNotFoundError)
    (tmp_path / "empty").mkdir()
    assert "no preference data at" in refused(tmp_path / "empty", FileNotFoundError)
    assert "a source of type int: give a path, a URL, a hub id or a data set" in refused(7)
    assert "memory://b/none.jsonl: can't be fetched (FileNotFoundError)" in refused(
        "memory://b/none.jsonl", ConnectionError
    )
    message = refused("nosuch://me:secret@host/d.jsonl?key=secret", ConnectionError)
    assert message.startswith("nosuch://host/d.jsonl: can't be fetched (ValueError)") and "secret" not in message
    monkeypatch.delenv("WORKSHOP_CACHE")
    assert "split 'other' is not one of train" in refused("aws-api", split="other")
    assert "columns is for data of your own" in refused("aws-api", columns={"prompt": "x"})
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "dataset_info.json").write_text("{")
    assert "saved: not a data set that datasets can load" in refused(tmp_path / "saved")


def test_data_in_memory_is_checked_alike():
    assert "the data set: row 0, rejected: is NoneType or empty" in refused(
        Dataset.from_list([GOOD | {"rejected": None}])
    )
    assert "the data set: row 1 is int; give dicts" in refused([GOOD, 7])
    assert "the data set holds no rows" in refused([])
    data = DatasetDict(other=Dataset.from_list([GOOD]))
    assert "no split 'train' in the data set, which has other" in refused(data, FileNotFoundError)


def test_the_hub_that_can_not_be_reached_is_told_apart_from_a_wrong_path(monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("no route to host\nand a second line")

    monkeypatch.setattr("datasets.get_dataset_split_names", fail)
    assert refused("owner/name", ConnectionError) == (
        "no file or folder owner/name, and the hub can't be reached (OSError): check the path, or the connection"
    )


def test_a_hub_set_with_bad_rows_loads_and_the_rows_are_set_aside(monkeypatch, tmp_path, capsys):
    rows = [GOOD, GOOD | {"chosen": ""}, GOOD | {"chosen": "A queue."}]
    monkeypatch.setenv("WORKSHOP_CACHE", str(tmp_path))
    monkeypatch.setattr("datasets.get_dataset_split_names", lambda source: ["train_prefs", "test_prefs"])
    monkeypatch.setattr("datasets.load_dataset", lambda source, split: Dataset.from_list(rows))
    assert len(load_preferences("owner/name")) == 1
    told = capsys.readouterr().out
    assert "the split 'train' is called 'train_prefs' there" in told
    assert "owner/name (train_prefs): 2 bad rows set aside in" in told and "chosen: the response is empty (1)" in told
    kept = [
        json.loads(line) for line in (tmp_path / "set_aside" / "owner-name-train-prefs.jsonl").read_text().splitlines()
    ]
    assert [row["row"] for row in kept] == [1, 2] and kept[0]["content"]["chosen"] == ""
    assert "row 1, chosen: the response is empty" in refused("owner/name", strict=True)


def test_bad_rows_are_set_aside_only_where_that_is_asked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORKSHOP_CACHE", str(tmp_path / "cache"))
    (tmp_path / "d.jsonl").write_bytes(jsonl(GOOD, GOOD | {"chosen": 5}, without("rejected")))
    assert len(load_preferences(tmp_path / "d.jsonl", strict=False)) == 1
    assert "d.jsonl: 2 bad rows set aside in" in capsys.readouterr().out
    (tmp_path / "d.jsonl").write_bytes(jsonl(GOOD | {"chosen": 5}))
    assert "d.jsonl: gives no pair; the first: row 0, chosen: is int or empty" in refused(
        tmp_path / "d.jsonl", strict=False
    )


def test_a_private_bucket_is_read_through_boto3_and_a_missing_key_is_named(monkeypatch, tmp_path):
    boto3, moto = pytest.importorskip("boto3"), pytest.importorskip("moto")
    monkeypatch.setenv("WORKSHOP_CACHE", str(tmp_path))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with moto.mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket="pairs")
        for key in ("one.jsonl", "set/train.jsonl", "set/test.jsonl", "set/deeper/other.jsonl"):
            client.put_object(Bucket="pairs", Key=key, Body=LINE)
        assert len(load_preferences("s3://pairs/one.jsonl")) == 1
        assert len(load_preferences("s3://pairs/set")) == len(load_preferences("s3://pairs/set", split="heldout")) == 1
        assert "s3://pairs/no.jsonl: can't be fetched: AWS answered 404: an object is missing" in refused(
            "s3://pairs/no.jsonl", ConnectionError
        )
        assert "no preference data at" in refused("s3://pairs/nothing", FileNotFoundError)


# ── fuzz ──

CELLS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "from", "value", "messages", "score", "text"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)
NAMES = [
    "prompt",
    "chosen",
    "rejected",
    "system",
    "tools",
    "question",
    "responses",
    "scores",
    "completion",
    "label",
    "input",
]


def survives(path) -> None:
    """Loads, or refuses in one line: whatever a file holds."""
    try:
        data = load_preferences(path)
    except ValueError as error:
        assert type(error) is ValueError and "\n" not in str(error) and path.name in str(error)
    else:
        assert data.column_names[:3] == ["prompt", "chosen", "rejected"] and len(data)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(NAMES), CELLS, max_size=5), min_size=1, max_size=3))
def test_whatever_json_says_it_loads_or_is_refused_in_one_line(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("fuzz") / "d.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    survives(path)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["d.jsonl", "d.json", "d.csv", "d.parquet", "d.arrow", "d.jsonl.gz"]), st.data())
def test_whatever_bytes_a_file_has_it_loads_or_is_refused_in_one_line(tmp_path_factory, name, data):
    whole = {"d.parquet": PARQUET, "d.arrow": ARROW, "d.jsonl.gz": gzip.compress(LINE * 3)}.get(name, LINE * 2)
    start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(whole))] * 2)))
    path = tmp_path_factory.mktemp("fuzz") / name
    path.write_bytes(whole[:start] + data.draw(st.binary(max_size=8)) + whole[end:])
    survives(path)


PARQUET, ARROW = parquet([GOOD] * 3), arrow([GOOD] * 3)
