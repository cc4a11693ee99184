"""Pairs of one's own: what a model trains on is the conversation, and files are read as people have them."""

import copy
import gzip
import json

import pytest
from datasets import Dataset, DatasetDict
from tokenizers import Tokenizer, decoders, models, normalizers, trainers
from transformers import PreTrainedTokenizerFast

from helpers.data.collate import PreferenceCollator
from helpers.data.load import load_preferences
from helpers.data.template import render
from helpers.data.tokenize import tokenize_preferences

GOOD = {"prompt": "What is S3?", "chosen": "Object storage.", "rejected": "A queue."}
HEADERS = "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + eos_token + '\n' }}{% endfor %}"
HEADERS += "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text} | more


def write(path, *rows):
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return path


def with_template(tokenizer, template):
    other = copy.deepcopy(tokenizer)
    other.chat_template = template
    return other


# ── what is trained on is the conversation ──


@pytest.fixture(scope="module")
def spaced():
    """A tokenizer that puts a space in front of every text, as those of Llama 2 and Mistral do."""
    core = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    letters = sorted(set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,?!#:|<>[]/\n▁'3"))
    special = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(vocab_size=160, special_tokens=special, initial_alphabet=letters, show_progress=False)
    core.train_from_iterator(["Object storage. A queue. What is S3?"] * 5, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<unk>"
    )
    tokenizer.chat_template = HEADERS
    return tokenizer


def test_an_answer_has_the_tokens_that_it_has_in_the_conversation(spaced):
    pair = {"prompt": [user("What is S3?")], "chosen": [assistant("Object storage.")], "rejected": [assistant("No.")]}
    row = tokenize_preferences(Dataset.from_list([pair]), spaced, 256)[0]
    text = spaced.apply_chat_template(pair["prompt"] + pair["chosen"], tokenize=False).rstrip("\n")
    assert row["chosen_input_ids"] == spaced(text, add_special_tokens=False)["input_ids"]
    prompt = spaced.apply_chat_template(pair["prompt"], tokenize=False, add_generation_prompt=True)
    assert row["chosen_input_ids"][: row["prompt_length"]] == spaced(prompt, add_special_tokens=False)["input_ids"]


def test_a_token_across_the_boundary_leaves_the_prompt_as_generation_sees_it(tokenizer):
    """Two line breaks are one token: the header's and that with which the answer begins."""
    pair = Dataset.from_list([{"prompt": [user("x")], "chosen": [assistant("\nyes")], "rejected": [assistant("no")]}])
    row = tokenize_preferences(pair, tokenizer, 256)[0]
    text = render(pair[0], tokenizer)
    assert row["chosen_input_ids"][: row["prompt_length"]] == tokenizer(text["prompt"])["input_ids"]
    assert tokenizer.decode(row["chosen_input_ids"]) == text["prompt"] + text["chosen"]


def test_text_that_the_tokenizer_can_not_write_is_named_with_its_row(spaced):
    rows = [GOOD, GOOD | {"chosen": "Störage."}]
    with pytest.raises(ValueError, match=r"row 1: the tokenizer turns 'örage\.</s>' into '<unk>rage"):
        tokenize_preferences(Dataset.from_list(rows), spaced, 256)


def test_an_answer_with_the_eos_text_is_refused_and_none_is_cut(tokenizer):
    bad = GOOD | {"rejected": f"The token {tokenizer.eos_token} ends a turn."}
    with pytest.raises(ValueError, match=r"row 1: rejected: the answer contains the EOS text '<\|im_end\|>'"):
        tokenize_preferences(Dataset.from_list([GOOD, bad]), tokenizer, 256)


@pytest.mark.parametrize("limit", [0, -3])
def test_a_prompt_of_no_tokens_is_refused(tokenizer, limit):
    with pytest.raises(ValueError, match=f"max_prompt_length is {limit}: give at least 1 token"):
        tokenize_preferences(Dataset.from_list([GOOD]), tokenizer, 64, limit)


def test_what_is_no_single_data_set_is_refused(tokenizer):
    data = Dataset.from_list([GOOD])
    with pytest.raises(ValueError, match=r"a dict of data sets \(train\): give one split"):
        tokenize_preferences(DatasetDict(train=data), tokenizer, 64)
    with pytest.raises(ValueError, match="IterableDataset can't be tokenised: for a stream"):
        tokenize_preferences(data.to_iterable_dataset(), tokenizer, 64)


def test_a_tokenizer_without_pad_token_is_refused():
    with pytest.raises(ValueError, match=r"no pad token: set tokenizer\.pad_token"):
        PreferenceCollator(None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chosen": [assistant("a"), user("b"), assistant("c")]}, "chosen: has a turn of the role 'user'"),
        ({"chosen": [assistant("a"), user("b")]}, "chosen: has a turn of the role 'user'"),
        ({"prompt": [{"role": "human", "content": "hi"}]}, "prompt: has the role 'human'; write one of system"),
        ({"prompt": [{"role": "User", "content": "hi"}]}, "prompt: has the role 'User'"),
        ({"chosen": 1}, "chosen: is int or empty"),
        ({"chosen": assistant("x")}, "chosen: is dict or empty"),
        ({"chosen": [assistant(42)]}, "chosen: holds"),
        ({"rejected": float("nan")}, "rejected: is float or empty"),
        ({"system": 3}, "system: is int; write a string"),
    ],
)
def test_one_bad_row_among_good_ones_is_named(tmp_path, change, message):
    with pytest.raises(ValueError, match=rf"d\.jsonl: row 1, {message}") as error:
        load_preferences(write(tmp_path / "d.jsonl", GOOD, GOOD | change))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("as_text", [json.dumps, str])
def test_message_lists_that_were_stored_as_text_are_read_again(tmp_path, as_text):
    row = {"prompt": as_text([user("x y")]), "chosen": as_text([assistant("it's")]), "rejected": "[{not a list"}
    data = load_preferences(write(tmp_path / "d.jsonl", row))
    assert data[0]["prompt"] == [user("x y")] and data[0]["chosen"] == [assistant("it's")]
    assert data[0]["rejected"] == [assistant("[{not a list")]


def test_tool_calls_keep_their_own_arguments(tmp_path, tokenizer):
    shows = with_template(
        tokenizer,
        "{% for m in messages %}{% if 'tool_calls' in m %}{{ m.tool_calls|tojson }}{% endif %}"
        "{{ m.content }}{% endfor %}",
    )

    def row(**arguments):
        call = assistant("", tool_calls=[{"function": {"name": "f", "arguments": arguments}}])
        return GOOD | {"prompt": [user("q"), call, {"role": "tool", "content": "22"}]}

    data = load_preferences(write(tmp_path / "d.jsonl", GOOD, row(city="Paris"), row(day=None)))
    texts = [render(example, shows)["prompt"] for example in data]
    assert texts[0] == "What is S3?"
    assert '"arguments": {"city": "Paris"}' in texts[1] and '"arguments": {"day": null}' in texts[2]


# ── nothing that changes the prompt is dropped silently ──


def test_tools_and_template_arguments_reach_the_template(tmp_path, tokenizer):
    shows = with_template(
        tokenizer,
        "{% if tools %}{{ tools|tojson }}{% endif %}{% if brief is defined %}{{ brief }}{% endif %}"
        "{% for m in messages %}{{ m.content }}{% endfor %}",
    )
    row = GOOD | {"tools": [{"name": "refund"}], "chat_template_kwargs": {"brief": False}}
    data = load_preferences(write(tmp_path / "d.jsonl", row, GOOD))
    assert render(data[0], shows)["prompt"] == '[{"name": "refund"}]FalseWhat is S3?'
    assert render(data[1], shows)["prompt"] == "What is S3?"


def test_a_system_column_becomes_the_first_message(tmp_path):
    pirate = {"role": "system", "content": "You are a pirate."}
    data = load_preferences(write(tmp_path / "d.jsonl", GOOD | {"system": "You are a pirate."}, GOOD))
    assert data["prompt"][:] == [[pirate, user("What is S3?")], [user("What is S3?")]]
    twice = GOOD | {"system": "You are a pirate.", "prompt": [pirate, user("x")]}
    with pytest.raises(ValueError, match=r"row 0, system: the prompt has a system message too"):
        load_preferences(write(tmp_path / "e.jsonl", twice))


def test_columns_that_nobody_reads_may_hold_anything_and_are_named(tmp_path, capsys):
    rows = (GOOD | {"score": 1, "id": 10**30}, GOOD | {"score": "high"})
    data = load_preferences(write(tmp_path / "d.jsonl", *rows))
    assert data.column_names == ["prompt", "chosen", "rejected"] and len(data) == 2
    assert capsys.readouterr().out == (
        "d.jsonl: 2 pairs (prompt from prompt, answers from chosen and rejected)\n"
        "d.jsonl: nothing reads id, score; left out\n"
    )


# ── templates ──


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('System role not supported') }}", r"refuses the messages \(user\): System role not"),
        ("{{ messages[0].content + 1 }}", r"refuses the messages \(user\): "),
        ("{{ raise_exception('') }}", r"refuses the messages \(user\): TemplateError; change the row's messages"),
        ("{{ 1 // 0 }}", r"refuses the messages \(user\): integer division or modulo by zero; change"),
        ("{{ raise_exception('a\nb') }}", r"refuses the messages \(user\): a b; change"),
        (None, "the tokenizer has no chat template"),
        (
            "{% if add_generation_prompt %}{{ messages[0].content }}{% else %}{{ messages[-1].content }}{% endif %}",
            "leaves out 'What is S3",
        ),
    ],
)
def test_a_template_error_names_row_cause_and_fix(tokenizer, template, message):
    with pytest.raises(ValueError, match=f"row 0: .*{message}") as error:
        tokenize_preferences(Dataset.from_list([GOOD]), with_template(tokenizer, template), 128)
    assert "\n" not in str(error.value)


NO_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + HEADERS
)
ALTERNATE = "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
ALTERNATE += "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}"


def test_a_refused_system_message_may_stand_in_front_of_the_first_user_message(tmp_path, tokenizer, capsys):
    prompt = [{"role": "system", "content": "Be brief."}, user("What is SQS?")]
    path, gemma = write(tmp_path / "d.jsonl", GOOD, GOOD | {"prompt": prompt}), with_template(tokenizer, NO_SYSTEM)
    fix = "load the pairs with system_in_user=True, which puts the system text in front of the first user message"
    with pytest.raises(ValueError, match=rf"row 1: .*\(system, user\): System role not supported; {fix}"):
        tokenize_preferences(load_preferences(path), gemma, 128)
    data = load_preferences(path, system_in_user=True)
    assert data["prompt"][:] == [[user("What is S3?")], [user("Be brief.\n\nWhat is SQS?")]]
    assert "1 rows have their system text put in front of the first user message" in capsys.readouterr().out
    alone = write(tmp_path / "e.jsonl", GOOD | {"prompt": prompt[:1]})
    with pytest.raises(ValueError, match="row 0, prompt: the system text has no user message to stand in front of"):
        load_preferences(alone, system_in_user=True)


def test_two_user_messages_in_a_row_are_named_where_a_template_refuses_them(tokenizer):
    twice = GOOD | {"prompt": [user("a"), user("b")]} | {side: [assistant(side)] for side in ("chosen", "rejected")}
    with pytest.raises(ValueError, match=r"row 0: .*\(user, user\): roles must alternate; join neighbouring messages"):
        tokenize_preferences(Dataset.from_list([twice]), with_template(tokenizer, ALTERNATE), 128)


# ── files as people have them ──


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_encodings_and_compression(tmp_path, encoding, pack):
    path = tmp_path / "d.jsonl"
    path.write_bytes(pack(json.dumps(GOOD | {"chosen": "Größe"}, ensure_ascii=False).encode(encoding)))
    assert load_preferences(path)[0]["chosen"] == [assistant("Größe")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (json.dumps(GOOD).encode() + b'\n{"prompt": "Gr\xf6\xdfe"}', r"line 2: byte 0xf6 is not UTF-8; save .* UTF-8"),
        (gzip.compress(b"x" * 999, mtime=0)[:20], "not a whole gzip file"),
        (b'{"prompt": "a \\ud83d", "chosen": "b", "rejected": "c"}', r"line 1: half a character, '\\ud83d'"),
        (b"[" * 100_000, "line 1: lists within lists too deep"),
    ],
)
def test_a_file_that_can_not_be_read_is_named_with_its_line(tmp_path, content, message):
    (tmp_path / "d.jsonl").write_bytes(content)
    with pytest.raises(ValueError, match=rf"d\.jsonl.*{message}"):
        load_preferences(tmp_path / "d.jsonl")


def test_a_torn_parquet_file_is_refused_in_one_line(tmp_path):
    (tmp_path / "d.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ValueError, match=r"d\.parquet: not a whole Parquet file"):
        load_preferences(tmp_path / "d.parquet")


def test_training_rows_are_not_returned_as_held_out(tmp_path):
    path = write(tmp_path / "mine.jsonl", GOOD)
    with pytest.raises(
        ValueError, match=r"mine\.jsonl is one file, whose rows are for training: for the split 'heldout'"
    ):
        load_preferences(path, split="heldout")
    assert len(load_preferences(write(tmp_path / "heldout.jsonl", GOOD), split="heldout")) == 1
