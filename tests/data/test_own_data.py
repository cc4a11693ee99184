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


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("latest.jsonl", None),
        ("contest.jsonl", None),
        ("device_faq.jsonl", None),
        ("medieval.jsonl", None),
        ("invalid.jsonl", None),
        ("train_test.jsonl", None),
        ("dev-test.jsonl", None),
        ("faq-test.jsonl", "heldout"),
        ("faq.Test2.jsonl", "heldout"),
        ("test_prefs.jsonl", "heldout"),
        ("2026_heldout.jsonl", "heldout"),
        ("my dev.jsonl", "validation"),
        ("faq_eval_1.jsonl", "validation"),
    ],
)
def test_a_part_of_a_file_s_name_says_its_split_and_a_part_of_a_word_does_not(tmp_path, name, split):
    path = write(tmp_path / name, GOOD)
    for asked in ("heldout", "validation"):
        if asked == split:
            assert len(load_preferences(path, split=asked)) == 1
            continue
        with pytest.raises((ValueError, FileNotFoundError), match=f"the split .{asked}|no split .{asked}"):
            load_preferences(path, split=asked)
    assert len(load_preferences(path)) == 1


def test_files_of_a_folder_are_for_the_split_that_a_part_of_their_name_says(tmp_path):
    for number, name in enumerate(("shop_train.jsonl", "contest.jsonl", "shop_test.jsonl")):
        write(tmp_path / name, *[GOOD] * (number + 1))
    assert len(load_preferences(tmp_path)) == 3 and len(load_preferences(tmp_path, split="heldout")) == 3
    assert len(load_preferences(tmp_path, split="test")) == 3


def test_message_lists_that_pandas_wrote_to_csv_from_parquet_are_read_again(tmp_path):
    pandas = pytest.importorskip("pandas")
    said = [user("It's \"a} {b\", isn't it?\n[x]"), assistant("y} {'role': 'user'}"), user("a\\'b} {"), assistant("z")]
    rows = [{"prompt": said[:3], "chosen": said[3:], "rejected": "[not a list]"}] * 2
    Dataset.from_list([row | {"rejected": [assistant(row["rejected"])]} for row in rows]).to_parquet(
        tmp_path / "d.parquet"
    )
    pandas.read_parquet(tmp_path / "d.parquet").to_csv(tmp_path / "d.csv", index=False)
    assert "}\n {" in (tmp_path / "d.csv").read_text()
    assert load_preferences(tmp_path / "d.csv").to_list() == load_preferences(tmp_path / "d.parquet").to_list()


@pytest.mark.parametrize(
    "text",
    [
        "[{'role': 'user', 'content': array(['x'], dtype=object)}]",
        "[{'role': 'user', 'content': 'x'} ... {'role': 'user', 'content': 'y'}]",
        "[{'from': 'human', 'value': nan}]",
    ],
)
def test_stored_messages_that_can_not_be_read_are_refused_with_row_and_fix(tmp_path, text):
    fix = r"write them as JSON, or keep the table as Parquet or JSON Lines \(the first row is row 0\)"
    with pytest.raises(ValueError, match=rf"d\.jsonl: row 1, prompt: holds messages as text that .* {fix}$") as error:
        load_preferences(write(tmp_path / "d.jsonl", GOOD, GOOD | {"prompt": text}))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        '[{"value": 3}, {"value": 4}]',
        '{"role": "admin", "content": "*"}',
        "{'from': 'Rome'}",
        "[{not a list",
        "[ ]",
        "{",
    ],
)
def test_answers_that_are_json_or_look_like_it_stay_text(tmp_path, text):
    assert load_preferences(write(tmp_path / "d.jsonl", GOOD | {"chosen": text}))[0]["chosen"] == [assistant(text)]


def test_one_message_that_was_stored_as_text_is_read_as_the_object_is(tmp_path):
    rows = [GOOD | {"chosen": {"from": "gpt", "value": "Yes."}}, GOOD | {"chosen": "{'from': 'gpt', 'value': 'Yes.'}"}]
    data = load_preferences(write(tmp_path / "d.jsonl", *rows))
    assert data["chosen"][:] == [[assistant("Yes.")]] * 2
    with pytest.raises(ValueError, match="row 0, chosen: is dict or empty"):
        load_preferences(write(tmp_path / "e.jsonl", GOOD | {"chosen": str(assistant("Yes."))}))


# ── pairs that were not loaded, and go to the tokens at once ──


def messages(**changes):
    sides = {"prompt": [user("What is S3?")], "chosen": [assistant("Object storage.")], "rejected": [assistant("No.")]}
    return sides | changes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chosen": [assistant("a"), user("b"), assistant("c")]}, "chosen: has a turn of the role 'user', which would"),
        ({"prompt": [{"role": "human", "content": "hi"}]}, "prompt: has the role 'human'; write one of system"),
        ({"prompt": [{"role": "User", "content": "hi"}]}, "prompt: has the role 'User'; write one of"),
        ({"rejected": [assistant("Object storage.")]}, "rejected: equals the chosen response; a pair needs two"),
        ({"chosen": [assistant("  ")]}, "chosen: the response is empty; write an answer or drop the row"),
        ({"prompt": [user("a"), assistant("b")]}, "prompt: ends with the assistant's message; move that message"),
        ({"chosen": [assistant(None)]}, "chosen: holds"),
        ({"chosen": []}, "chosen: is list or empty"),
    ],
)
def test_a_bad_row_that_was_not_loaded_is_named_as_a_loaded_one(tokenizer, change, message):
    rows = Dataset.from_list([messages(), messages(**change)])
    for read in (lambda: tokenize_preferences(rows, tokenizer, 128), lambda: load_preferences(rows)):
        with pytest.raises(ValueError, match=f"row 1, {message}") as error:
            read()
        assert "\n" not in str(error.value)


def test_text_that_was_not_loaded_is_read_or_refused(tokenizer):
    stored = {column: str(said) for column, said in messages().items()}
    whole, text = (tokenize_preferences(Dataset.from_list([row]), tokenizer, 128)[0] for row in (messages(), stored))
    assert text == whole
    talk = GOOD | {"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"}
    with pytest.raises(ValueError, match=r"row 0, chosen: is a Human/Assistant transcript; .* load_preferences"):
        tokenize_preferences(Dataset.from_list([talk]), tokenizer, 128)
    with pytest.raises(ValueError, match="column prompt is missing: give each row prompt, chosen, rejected"):
        tokenize_preferences(Dataset.from_list([talk]).remove_columns("prompt"), tokenizer, 128)


@pytest.mark.parametrize("column", ["system", "system_prompt"])
def test_a_system_column_that_was_not_loaded_reaches_the_prompt(tokenizer, column):
    rows = Dataset.from_list([messages(**{column: "You are a pirate."}), messages(**{column: None})])
    tokens = tokenize_preferences(rows, tokenizer, 128)
    assert tokens.to_list() == tokenize_preferences(load_preferences(rows), tokenizer, 128).to_list()
    assert "You are a pirate." in tokenizer.decode(tokens[0]["chosen_input_ids"])
    assert tokenize_preferences(rows, tokenizer, 128).to_list() == tokens.to_list(), "checked, and read as before"


def test_columns_that_nothing_reads_are_told_once_before_rows_are_tokenised(tokenizer, capsys):
    more = {"margin": 1.0, "images": "x.png", "weight": 2, "source": "a"}
    rows = Dataset.from_list([messages(prompt=[user("q") | {"weight": 0}], **more)])
    tokenize_preferences(rows, tokenizer, 128)
    said = "the data set: nothing reads images, margin, weight, weight of messages; left out\n"
    assert capsys.readouterr().out == said
    tokenize_preferences(rows, tokenizer, 128)
    assert capsys.readouterr().out == ""


def test_rows_that_were_loaded_are_not_checked_again(tokenizer, monkeypatch, tmp_path):
    rows = load_preferences(write(tmp_path / "d.jsonl", GOOD, GOOD), limit=1)
    built_in = load_preferences("aws-api", limit=2)
    monkeypatch.setattr("helpers.data.tokenize.readable_pair", None)
    for data in (rows, built_in):
        tokenize_preferences(data, tokenizer, 512)
    with pytest.raises(TypeError):
        tokenize_preferences(rows.add_column("more", ["x"]), tokenizer, 128)
