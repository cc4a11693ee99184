"""Generated answers, and how near they are to the right ones (chrF)."""

import numpy as np
import torch
from sacrebleu.metrics import CHRF
from transformers import AutoModelForCausalLM, StoppingCriteria

from helpers.evaluation.intervals import percentile_interval, resample_weights
from helpers.objective.logprobs import evaluating
from helpers.runs.memory import release_memory
from helpers.runs.progress import Bar


def generate_answers(
    model,
    tokenizer,
    prompts: list[list[dict]],
    max_new_tokens: int,
    batch_size: int = 50,
    desc: str = "answers",
    temperature: float = 0.0,
    seed: int = 0,
    arguments: list[dict] | None = None,
    streamer=None,
) -> list[str]:
    """Answers to chat prompts, new text only. Greedy at temperature 0, so that the same model always says the same.

    Above 0, each token is drawn from the whole distribution at that temperature, from `seed`; the caller's random
    state stays as it was. `arguments`: what else the chat template gets for each prompt, such as `tools`. `streamer`:
    one of transformers', which hears each token of a single prompt's answer. Raises ValueError for a negative
    temperature, and for a streamer with several prompts. Shows its progress under the name `desc` where there is more
    than one batch.
    """
    if temperature < 0:
        raise ValueError(f"temperature is {temperature}: give 0 for greedy answers, or more to sample")
    if streamer is not None and len(prompts) != 1:
        raise ValueError(f"{len(prompts)} prompts with a streamer: give one prompt")
    sampling = {"do_sample": False}
    if temperature:
        sampling = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
    ask = {"tokenize": False, "add_generation_prompt": True}
    asked = zip(prompts, arguments or [{}] * len(prompts), strict=True)
    texts = [tokenizer.apply_chat_template(prompt, **ask, **more) for prompt, more in asked]
    answers = []
    bar = Bar(total=len(texts), desc=desc, disable=len(texts) <= batch_size)
    with evaluating(model), torch.random.fork_rng(), bar:
        torch.manual_seed(seed)
        for start in range(0, len(texts), batch_size):
            inputs = tokenizer(
                texts[start : start + batch_size],
                return_tensors="pt",
                padding=True,
                padding_side="left",  # generation continues from the right end
                add_special_tokens=False,
            ).to(model.device)
            output = model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                max_new_tokens=max_new_tokens,
                **sampling,
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=stop_tokens(model, tokenizer),
                stopping_criteria=[Ticks(bar, max_new_tokens)],
                streamer=streamer,
            )
            new_tokens = output[:, inputs["input_ids"].shape[1] :]
            answers += [text.strip() for text in tokenizer.batch_decode(new_tokens, skip_special_tokens=True)]
            bar.update(len(answers) - bar.n)
            release_memory()  # of keys and values, half a GiB for 50 prompts of the laptop's model
    return answers


class Ticks(StoppingCriteria):
    """Moves a bar of answers with each new token of a batch, which may take a minute; stops no answer."""

    def __init__(self, bar: Bar, max_new_tokens: int):
        self.bar, self.max_new_tokens, self.said, self.first = bar, max_new_tokens, 0, bar.n

    def __call__(self, input_ids, scores, **more) -> torch.Tensor:
        """transformers asks after each token: (rows, tokens) → (rows,), False for go on."""
        self.said += 1
        self.bar.update(self.first + len(input_ids) * self.said / self.max_new_tokens - self.bar.n)
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def in_bf16(model):
    """A copy of an ordinary causal model with bf16 weights, which answers twice as fast where bf16 is fast."""
    smaller = AutoModelForCausalLM.from_config(model.config, dtype=torch.bfloat16)
    smaller.load_state_dict(model.state_dict())  # casts as it copies
    smaller.generation_config = model.generation_config
    return smaller.to(model.device).eval()


def stop_tokens(model, tokenizer) -> list[int]:
    """Every token at which an answer ends: those of the model's generation settings, and the tokenizer's EOS."""
    own = model.generation_config.eos_token_id
    own = own if isinstance(own, list) else [own]
    return sorted({token for token in (*own, tokenizer.eos_token_id) if token is not None})


def chrf_statistics(answers: list[str], references: list[str]) -> np.ndarray:
    """sacrebleu's character n-gram counts for each answer: (n, 18). Their sum gives the corpus score."""
    if len(answers) != len(references):
        raise ValueError(f"{len(answers)} answers for {len(references)} references: give one each")
    return np.array(
        [CHRF()._extract_corpus_statistics([a], [[r]])[0] for a, r in zip(answers, references, strict=True)]
    )


def chrf_score(statistics: np.ndarray) -> float:
    """Corpus chrF (0 to 100) from summed statistics (18,)."""
    return CHRF()._compute_f_score([float(count) for count in statistics])


def chrf_with_ci(answers: list[str], references: list[str], seed: int = 0, groups=None) -> tuple[float, list[float]]:
    """Corpus chrF of the answers and its 95% interval."""
    statistics = chrf_statistics(answers, references)
    resampled = resample_weights(len(answers), seed, groups) @ statistics
    return chrf_score(statistics.sum(axis=0)), percentile_interval(np.array([chrf_score(row) for row in resampled]))
