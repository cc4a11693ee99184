"""The stages of every technique and what each may use, defined once: the same pairs, each seen once a stage."""

from dataclasses import asdict, dataclass

from helpers.evaluation.methods import METHODS

STAGES = {"sft": ("sft",), "dpo": ("sft", "dpo"), "rlhf": ("sft", "reward", "rlhf"), "orpo": ("orpo",)}
LABELS = {name: " → ".join(METHODS[stage].label for stage in stages) for name, stages in STAGES.items()}


@dataclass(frozen=True)
class Budget:
    """Equal pairs: each stage sees the same `pairs` once, `pairs_per_step` at a time (RLHF's last stage their prompts).
    The reward model gets `reward_pairs`: from 96 pairs of the domain it learned no more than to guess, in some seeds.

    Equal seconds: every technique trains as long as SFT and DPO together took for these pairs, all stages included; who
    is faster looks at further pairs.
    Learning rates and betas were chosen on services of the validation split, which no result is measured on.
    """

    pairs: int
    reward_pairs: int
    pairs_per_step: int
    heldout_pairs: int
    orpo_beta: float
    dpo_beta: float  # how strongly DPO holds to the reference
    dpo_learning_rate: float
    reward_learning_rate: float
    reward_floor: float  # held-out accuracy below which a reward model is refused; a toy model learns nothing
    rloo_learning_rate: float
    completions: int  # sampled answers a prompt
    sampled_tokens: int  # at most, of a sampled answer
    kl_weight: float
    kl_limit: float  # nats a token
    answers: int  # held-out prompts that each stage answers
    answer_tokens: int  # at most, of such an answer

    def pairs_of(self, stage: str) -> int:
        """Pairs that a stage sees, each once."""
        return self.reward_pairs if stage == "reward" else self.pairs

    def steps_of(self, stage: str) -> int:
        """Optimizer steps of a stage."""
        return self.pairs_of(stage) // self.pairs_per_step

    @property
    def settings(self) -> dict:
        """As a dictionary, to be stored with what came out."""
        return asdict(self)


BUDGETS = {
    "smoke": Budget(
        pairs=8,
        reward_pairs=8,
        pairs_per_step=4,
        heldout_pairs=16,
        orpo_beta=1.0,
        dpo_beta=0.1,
        dpo_learning_rate=1e-3,
        reward_learning_rate=1e-3,
        reward_floor=0.0,
        rloo_learning_rate=1e-3,
        completions=2,
        sampled_tokens=8,
        kl_weight=0.05,
        kl_limit=5.0,
        answers=4,
        answer_tokens=8,
    ),
    "laptop": Budget(
        pairs=96,
        reward_pairs=192,
        pairs_per_step=4,
        heldout_pairs=128,
        orpo_beta=1.5,
        dpo_beta=0.1,
        dpo_learning_rate=2e-4,
        reward_learning_rate=1e-3,
        reward_floor=0.5,
        rloo_learning_rate=5e-4,
        completions=2,
        sampled_tokens=32,
        kl_weight=0.05,
        kl_limit=2.0,
        answers=48,
        answer_tokens=48,
    ),
}
