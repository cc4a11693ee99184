"""The structures of the chat templates that people use, on three kinds of tokenizers: what is trained on is the
conversation, the prompt is what generation sees, EOS is labelled once; or the refusal is one line.

The templates are written here after the structure of each model's own, without its tool calls and dates.
"""

import re
from dataclasses import dataclass
from functools import cache

import pytest
from datasets import Dataset
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from helpers.data.load import load_preferences
from helpers.data.tokenize import tokenize_preferences
from helpers.objective.labels import IGNORE

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA_3 = (
    "{% for m in messages %}{% set text = '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content | trim "
    "+ '<|eot_id|>' %}{{ bos_token + text if loop.first else text }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
TAKE_SYSTEM = (
    "{% set system = '' %}{% if messages[0].role == 'system' %}{% set system = messages[0].content %}"
    "{% set messages = messages[1:] %}{% endif %}"
)
ALTERNATING = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/...') }}{% endif %}{% endfor %}"
)
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
GEMMA_TURNS = (
    "{% for m in messages %}{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' + "
    "(system + '\n\n' if loop.first and system else '') + m.content | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Family:
    """A template's structure, its special tokens, and what it refuses: "" or a part of the message."""

    template: str
    eos: str
    specials: tuple[str, ...] = ()
    bos: str = "<s>"
    refuses_system: str = ""
    refuses_all: str = ""


FAMILIES = {
    "Llama 2": Family(
        TAKE_SYSTEM + ALTERNATING + "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token + '[INST] ' + "
        "('<<SYS>>\n' + system + '\n<</SYS>>\n\n' if loop.first and system else '') + m.content | trim + ' [/INST]' }}"
        "{% else %}{{ ' ' + m.content | trim + ' ' + eos_token }}{% endif %}{% endfor %}",
        "</s>",
    ),
    "Llama 3": Family(LLAMA_3, "<|eot_id|>", ("<|start_header_id|>", "<|end_header_id|>"), "<|begin_of_text|>"),
    "Llama 3.1": Family(
        TAKE_SYSTEM + "{{ bos_token + '<|start_header_id|>system<|end_header_id|>\n\nToday Date: 26 Jul 2024\n\n' + "
        "system + '<|eot_id|>' }}" + LLAMA_3.replace("bos_token + text if loop.first else text", "text"),
        "<|eot_id|>",
        ("<|start_header_id|>", "<|end_header_id|>"),
        "<|begin_of_text|>",
    ),
    "Qwen2.5": Family(
        "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\nYou are Qwen.<|im_end|>\n' }}{% endif %}"
        + CHATML,
        "<|im_end|>",
        ("<|im_start|>",),
    ),
    "Qwen3": Family(
        "{% set ns = namespace(last=0) %}"
        "{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}"
        "{% endif %}{% endfor %}{% for m in messages %}{% set text = m.content %}{% if m.role == 'assistant' and "
        "loop.index0 < ns.last and '</think>' in text %}"
        "{% set text = text.split('</think>')[-1].lstrip('\n') %}{% endif %}"
        "{{ '<|im_start|>' + m.role + '\n' + text + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
        "<|im_end|>",
        ("<|im_start|>",),
    ),
    "Gemma 2": Family(
        "{{ bos_token }}" + NO_SYSTEM + ALTERNATING + "{% set system = '' %}" + GEMMA_TURNS,
        "<eos>",
        ("<start_of_turn>", "<end_of_turn>"),
        "<bos>",
        refuses_system="System role not supported; load the pairs with system_in_user=True",
    ),
    "Gemma 3": Family(
        "{{ bos_token }}" + TAKE_SYSTEM + ALTERNATING + GEMMA_TURNS,
        "<eos>",
        ("<start_of_turn>", "<end_of_turn>"),
        "<bos>",
    ),
    "Mistral v0.3": Family(
        TAKE_SYSTEM + ALTERNATING + "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + "
        "(system + '\n\n' if loop.last and system else '') + m.content + '[/INST]' }}{% else %}"
        "{{ ' ' + m.content | trim + eos_token }}{% endif %}{% endfor %}",
        "</s>",
        ("[INST]", "[/INST]"),
        refuses_system="leaves out 'Be brief.' once an answer follows: load the pairs with system_in_user=True",
    ),
    "Mistral Nemo": Family(
        TAKE_SYSTEM + ALTERNATING + "{% set asked = messages | selectattr('role', 'equalto', 'user') | list %}"
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}"
        "{{ '[INST]' + (system + '\n\n' if m == asked[-1] "
        "and system else '') + m.content + '[/INST]' }}"
        "{% else %}{{ m.content | trim + eos_token }}{% endif %}{% endfor %}",
        "</s>",
        ("[INST]", "[/INST]"),
    ),
    "Phi-3": Family(
        "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}",
        "<|endoftext|>",
        ("<|user|>", "<|assistant|>", "<|system|>", "<|end|>"),
    ),
    "DeepSeek-R1": Family(
        TAKE_SYSTEM
        + "{{ bos_token + system }}{% for m in messages %}{% if m.role == 'user' %}{{ '<｜User｜>' + m.content }}"
        "{% else %}{{ '<｜Assistant｜>' + m.content.split('</think>')[-1] + eos_token }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<｜Assistant｜><think>\n' }}{% endif %}",
        "<｜end▁of▁sentence｜>",
        ("<｜User｜>", "<｜Assistant｜>"),
        "<｜begin▁of▁sentence｜>",
        refuses_all="the prompt is no prefix of it: use a template whose generation prompt equals the",
    ),
    "ChatML": Family(CHATML, "<|im_end|>", ("<|im_start|>",)),
}


def byte_level(merges: int) -> Tokenizer:
    """GPT-2's kind: bytes, joined by as many merges as are learnt."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=256 + merges, initial_alphabet=alphabet, show_progress=False)
    core.train_from_iterator(["Object storage. A queue. What is S3? Be brief.\n\n"] * 9, trainer)
    return core


def sentence_piece() -> Tokenizer:
    """Llama 2's kind: a space is a letter, one stands in front of every text, and unknown characters are bytes."""
    letters = ["▁", *map(chr, range(33, 127))]
    pieces = {piece: i for i, piece in enumerate(["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters])}
    core = Tokenizer(models.BPE(pieces, [], unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    core.decoder = decoders.Sequence(steps)
    return core


def newer_sentence_piece() -> Tokenizer:
    """Mistral's and Llama 2's newer kind: a space stands in front of the first word of a text only."""
    core = sentence_piece()
    core.normalizer = None
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    return core


CORES = {
    "BPE": lambda: byte_level(40),
    "bytes": lambda: byte_level(0),
    "SentencePiece": sentence_piece,
    "Metaspace": newer_sentence_piece,
}


def made(family: Family, kind: str) -> PreTrainedTokenizerFast:
    core = CORES[kind]()
    core.add_special_tokens([AddedToken(text, special=True) for text in (family.bos, family.eos, *family.specials)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token=family.bos, eos_token=family.eos)
    tokenizer.chat_template = family.template
    return tokenizer


TALK = [("user", "What is S3?"), ("assistant", "A service."), ("user", "Of what kind?\nBriefly!")]
CONVERSATIONS = {"one turn": TALK[:1], "three turns": TALK, "system": [("system", "Be brief."), *TALK[:1]]}


def pair(prompt, chosen="It is object storage.", rejected="A queue, as in SQS") -> dict:
    sides = {"prompt": prompt, "chosen": [("assistant", chosen)], "rejected": [("assistant", rejected)]}
    return {side: [{"role": role, "content": text} for role, text in said] for side, said in sides.items()}


def check(tokenizer, row: dict, kind: str) -> None:
    """What is trained on is the conversation; the prompt is generation's; EOS is labelled once, at the end."""
    tokens = tokenize_preferences(Dataset.from_list([row]), tokenizer, 4096)[0]
    asked = tokenizer.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True)
    seen = tokenizer(asked, add_special_tokens=False)["input_ids"]
    for side in ("chosen", "rejected"):
        whole = tokenizer.apply_chat_template(row["prompt"] + row[side], tokenize=False)
        whole = whole.rstrip() if whole.rstrip().endswith(tokenizer.eos_token) else whole + tokenizer.eos_token
        ids, labels = tokens[f"{side}_input_ids"], tokens[f"{side}_labels"]
        at_once = tokenizer(whole, add_special_tokens=False)["input_ids"]
        assert ids == at_once or at_once[: len(seen)] != seen, "the prompt is encoded once; nothing changes by it"
        assert same(tokenizer.decode(ids), whole, kind)
        assert ids[: len(seen)] == seen and labels[: len(seen)] == [IGNORE] * len(seen)
        answer = [label for label in labels if label != IGNORE]
        assert answer == ids[len(seen) :] and answer.count(tokenizer.eos_token_id) == 1 == (
            answer[-1:] == [tokenizer.eos_token_id]
        )


def same(text: str, other: str, kind: str) -> bool:
    """Equal; but for spaces around special tokens, which SentencePiece's kind adds and takes away."""
    squeezed = (re.sub(r"\s", "", each) for each in (text, other))
    return text == other or (kind in ("SentencePiece", "Metaspace") and len(set(squeezed)) == 1)


@pytest.mark.parametrize("kind", CORES)
@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_trained_on_is_the_conversation_or_refused(name, kind, tmp_path):
    family, tokenizer = FAMILIES[name], made(FAMILIES[name], kind)
    for conversation, prompt in CONVERSATIONS.items():
        row = pair(prompt)
        refusal = family.refuses_all or (family.refuses_system if conversation == "system" else "")
        if not refusal:
            check(tokenizer, row, kind)
            continue
        with pytest.raises(ValueError, match=re.escape(refusal)) as error:
            tokenize_preferences(Dataset.from_list([row]), tokenizer, 4096)
        assert str(error.value).startswith("row 0: ") and "\n" not in str(error.value)
        if not family.refuses_all:
            check(tokenizer, load_preferences([row], system_in_user=True)[0], kind)


def test_neighbouring_user_turns_are_refused_in_one_line_where_the_template_refuses_them():
    row = pair([("user", "a"), ("user", "b")])
    with pytest.raises(ValueError, match="join neighbouring messages of one role into one") as error:
        tokenize_preferences(Dataset.from_list([row]), made(FAMILIES["Gemma 3"], "BPE"), 4096)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", CORES)
def test_a_token_of_the_template_in_a_text_is_encoded_as_the_tokenizer_does(kind):
    texts = ("What is <|im_start|>?", "It is <|im_start|> and <unk>.", "<unk>é<|im_start|> ")
    question, *answers = texts
    check(made(FAMILIES["ChatML"], kind), pair([("user", question)], *answers), kind)


TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30).filter(
    lambda text: text.strip() == text
)


@settings(max_examples=60, deadline=None)
@given(TEXTS, TEXTS, TEXTS, st.sampled_from(["ChatML", "Llama 3", "Qwen3", "Mistral Nemo", "Phi-3"]))
def test_any_text_comes_back_as_it_was_on_byte_level_tokenizers(question, chosen, rejected, name):
    assume(chosen != rejected)
    check(made_once(name, "bytes"), pair([("user", question)], chosen, rejected), "bytes")


@pytest.mark.parametrize("kind", ["BPE", "SentencePiece", "Metaspace"])
@settings(max_examples=8, deadline=None)
@given(TEXTS, TEXTS, TEXTS, st.sampled_from(["ChatML", "Llama 2", "Llama 3", "Gemma 3", "Mistral Nemo", "Phi-3"]))
def test_any_text_comes_back_as_it_was_on_the_other_tokenizers(kind, question, chosen, rejected, name):
    assume(chosen != rejected)
    check(made_once(name, kind), pair([("user", question)], chosen, rejected), kind)


@cache
def made_once(name: str, kind: str) -> PreTrainedTokenizerFast:
    return made(FAMILIES[name], kind)
