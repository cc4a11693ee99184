"""The one dial: how big a run is. A notebook's parameters cell names a profile; everything else follows."""

import os
from dataclasses import dataclass, fields, replace
from numbers import Real


@dataclass(frozen=True)
class Profile:
    """The settings of a run. Lengths are in tokens, `*_every` in optimizer steps."""

    name: str
    model: str
    train_pairs: int
    heldout_pairs: int
    monitor_pairs: int
    max_length: int
    steps: int
    pairs_per_step: int
    learning_rate: float
    lora_rank: int
    beta: float
    monitor_every: int
    save_every: int
    generation_prompts: int
    max_new_tokens: int
    seed: int = 0

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type in (int, float) and not isinstance(value, Real):
                raise ValueError(f"{field.name} is {value!r}: give a number, without quotes")

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.steps} steps of {self.pairs_per_step} pairs out of {self.train_pairs}, "
            f"{self.heldout_pairs} held out, at most {self.max_length} tokens, beta {self.beta:g}, seed {self.seed}"
        )

    def lesson(self, learned: str) -> str:
        """What a run that passed its checks has shown. A toy model has learned nothing, and must not seem to."""
        return "A toy model: its numbers show only that everything runs." if self.name == "smoke" else learned


PROFILES = {
    "smoke": Profile(
        name="smoke",
        model="smoke",
        train_pairs=32,
        heldout_pairs=16,
        monitor_pairs=8,
        max_length=128,
        steps=4,
        pairs_per_step=4,
        learning_rate=1e-3,
        lora_rank=4,
        beta=1.0,
        monitor_every=2,
        save_every=2,
        generation_prompts=4,
        max_new_tokens=8,
    ),
    "laptop": Profile(
        name="laptop",
        model="HuggingFaceTB/SmolLM2-135M-Instruct",
        train_pairs=600,
        heldout_pairs=256,
        monitor_pairs=4,
        max_length=192,
        steps=150,
        pairs_per_step=4,
        learning_rate=1e-3,
        lora_rank=16,
        beta=1.0,
        monitor_every=2,
        save_every=30,
        generation_prompts=200,
        max_new_tokens=32,
    ),
}


def get_profile(name: str | None = None) -> Profile:
    """The profile called `name`, else $PROFILE, else "laptop"; $WORKSHOP_SEED and $WORKSHOP_MODEL override theirs."""
    name = name or os.environ.get("PROFILE") or "laptop"
    if name not in PROFILES:
        raise ValueError(f"unknown profile {name!r}: choose one of {', '.join(PROFILES)}")
    overrides = {}
    if model := os.environ.get("WORKSHOP_MODEL"):
        overrides["model"] = model
    if seed := os.environ.get("WORKSHOP_SEED"):
        if not seed.isdigit():
            raise ValueError(f"WORKSHOP_SEED is {seed!r}: give a whole number, 0 or more")
        overrides["seed"] = int(seed)
    return replace(PROFILES[name], **overrides)
