"""Checks of the exercises on machines: 00, memory; 06, the Neuron compile cache; 08, training jobs; 09, serving."""

import json
import math
from collections.abc import Callable

from helpers.credentials import kind_of_credential, refuse_credentials
from helpers.exercises.check import check

HOUR = 3600
PIECES = ("Lists", " the", " topics", ".\n", "Then", " stops", ".")  # of a streamed answer

# ── 00: memory ──────────────────────────────────────────────────────────────────────────────────────────────


@check("A parameter takes four bytes in float32, and two in bf16.")
def check_weights(answer, parameters: int) -> str | None:
    """Bytes of a model's weights in float32."""
    if answer == 2 * parameters:
        return "that is bf16, with 16 bits a number; float32 has 32"
    if answer == 32 * parameters:
        return "32 bits are not 32 bytes: a byte has 8 bits"
    return None if answer == 4 * parameters else f"{parameters:,} parameters, times the bytes of one number"


@check("Weights, gradients and two moments: sixteen bytes a parameter before the first token is read.")
def check_training_bytes(answer, parameters: int) -> str | None:
    """Bytes that training all weights in float32 with AdamW takes, without activations."""
    if answer == 4 * parameters:
        return "those are the weights alone: add their gradients, and what AdamW keeps for each"
    if answer == 12 * parameters:
        return "AdamW keeps two moments for each weight, not one: the mean of the gradients, and of their squares"
    return None if answer == 16 * parameters else "four numbers a parameter: weight, gradient, two moments"


@check("LoRA leaves the base without gradients and moments: only the adapter pays for training.")
def check_lora_bytes(answer) -> str | None:
    """A function (base, adapter) → bytes of a LoRA training: a base in bf16, and an adapter in float32 with AdamW."""
    for base, adapter in ((100, 10), (1000, 0)):
        found, right = answer(base, adapter), 2 * base + 16 * adapter
        if found == 16 * (base + adapter):
            return "that trains the base too: it is frozen, so it has no gradients and no moments"
        if found == 4 * base + 16 * adapter:
            return "the frozen base is kept in bf16: two bytes a parameter"
        if found != right:
            return f"for {base} parameters in the base and {adapter} in the adapter it is {right}, not {found}"
    return None


# ── 06: the compile cache ───────────────────────────────────────────────────────────────────────────────────


@check("`model.done` is written last: without it nobody knows that the compiled graph is whole.")
def check_state(answer, files: set[str]) -> str | None:
    """The state of a graph of these files that nobody compiles now."""
    if answer == "compiled":
        return "the compiled graph may be half written: which file says that it is whole?"
    if answer == "failed":
        return "a failed compile leaves a model.log, and there is none"
    return None if answer == "incomplete" else f"one of compiled, failed, incomplete: look at {sorted(files)}"


@check("Shapes and types are part of a graph. Most numbers are passed into it; some add a graph as they leave 0 or 1.")
def check_compiles(answer, changes: list[dict]) -> str | None:
    """Which settings add graphs, of the recorded changes: [{"change": {setting: value}, "new": graphs}, …]."""
    right = {name for row in changes for name in row["change"] if row["new"]}
    wrong, missed = sorted(set(answer) - right), sorted(right - set(answer))
    if wrong:
        return f"{wrong[0]} is passed into the graph as a number: it added none"
    return f"one more is part of the graph: {missed[0]}" if missed else None


@check("In doubt a lock is alive: a graph that two processes compile at once may end half written.")
def check_stale(answer) -> str | None:
    """A function (age in seconds, whether a process holds the lock) → whether the lock may be moved away."""
    if answer(2 * HOUR, True):
        return "a process holds it: large graphs take longer than an hour to compile"
    if answer(60, False):
        return "it is a minute old: the compile may run in a container or on a host that this machine can't see"
    return None if answer(2 * HOUR, False) else "two hours old and nobody holds it: later runs would wait for ever"


# ── 08: training jobs ───────────────────────────────────────────────────────────────────────────────────────


@check("The longest runtime bounds the bill: every instance is paid for as long as the job runs.")
def check_most_cost(answer, instances: int, max_seconds: int, usd_per_hour: float) -> str | None:
    """US dollars that a job can cost at most."""
    hours = max_seconds / HOUR
    if math.isclose(answer, hours * usd_per_hour) and instances != 1:
        return f"that is one instance: the job has {instances}"
    if math.isclose(answer, instances * max_seconds * usd_per_hour):
        return "the price is for an hour, and the longest runtime is in seconds"
    right = instances * hours * usd_per_hour
    return None if math.isclose(answer, right, rel_tol=1e-3) else "instances × hours × price of an hour"


@check("The name of a secret tells nothing: the job reads the token itself, with its own role.")
def check_no_token(answer: dict) -> str | None:
    """Arguments of a TrainingJob that needs a hub token, which must not stand in them."""
    settings = {name: value for name, value in answer.items() if name != "token_secret"}
    if kind := kind_of_credential(str(answer.get("token_secret", ""))):
        return f"token_secret is the {kind} itself: give the name under which it is stored"
    try:
        refuse_credentials("settings", settings)
    except ValueError:
        return "a setting holds a credential: everybody who may describe the job can read it"
    return None if answer.get("token_secret") else "the job needs a token: name its secret under token_secret"


@check("A spot interruption costs the steps since the last checkpoint, and no more.")
def check_steps_lost(answer) -> str | None:
    """A function (steps done, save_steps) → steps that are trained again after an interruption."""
    for done, every in ((130, 50), (100, 50), (40, 50)):
        found, right = answer(done, every), done % every
        if found == done and done != right:
            return f"from the start? a checkpoint is written every {every} steps: {done} steps have {done // every}"
        if found == every - right and found != right:
            return "those are the steps that were left to the next checkpoint; it was never written"
        if found != right:
            return f"after {done} steps with a checkpoint every {every}, {right} are lost, not {found}"
    return None


# ── 09: serving ─────────────────────────────────────────────────────────────────────────────────────────────


@check("Prompt and answer share the length that was compiled: what the longest prompt leaves is the answer's.")
def check_longest_answer(answer, length: int, prompts: list[int]) -> str | None:
    """The largest max_tokens with which every prompt and its answer fit a model that was exported for a length."""
    if answer == length:
        return "prompt and answer share this length: the answer has what the prompt leaves"
    if answer == length - min(prompts):
        return "that is what the shortest prompt leaves; after the longest one less is left"
    return None if answer == length - max(prompts) else f"{length} for both; a prompt has up to {max(prompts)}"


@check("Generation ends with the token that ended each answer in training. `checked_model` looks for it.")
def check_stop_token(answer: dict, repaired: Callable[[dict], str]) -> str | None:
    """Settings with which a copy of a model stops; `repaired` writes them into its folder, and checks it."""
    if "eos_token_id" not in answer:
        named = ", ".join(answer) or "an empty dict"
        return f"{named} does not end an answer, it only cuts one: which setting names the token that ends it?"
    try:
        repaired(answer)
    except ValueError:
        told = f"no answer ends with token {answer['eos_token_id']}"
        return f"{told}: which one does the chat template write at the end of a turn, and what is its number?"
    return None


@check("The pieces, as they come, are the answer. A client of the OpenAI API does just that for you.")
def check_stream(answer) -> str | None:
    """A function from the lines of a streamed answer to its text."""
    right = "".join(PIECES)
    try:
        found = answer(streamed(PIECES))
    except json.JSONDecodeError:
        return "not every line is JSON: some are empty, each begins with `data: `, and the last one is [DONE]"
    except KeyError:
        return "not every chunk has content: the first says whose turn it is, the last why the answer ended"
    if found == " ".join(PIECES):
        return "the pieces bring their own spaces: put nothing between them"
    if found == "".join(piece.strip() for piece in PIECES):
        return "the spaces at the ends of the pieces belong to the answer: don't strip them"
    return None if found == right else f"the answer is {right!r}, not {found!r}"


def streamed(pieces) -> list[str]:
    """The lines that a server of the OpenAI API sends for these pieces, without what names the request."""
    deltas = [{"role": "assistant"}, *({"content": piece} for piece in pieces)]
    choices = [{"delta": delta} for delta in deltas] + [{"delta": {}, "finish_reason": "stop"}]
    events = [*(json.dumps({"choices": [choice]}) for choice in choices), "[DONE]"]
    return [line for event in events for line in (f"data: {event}", "")]
