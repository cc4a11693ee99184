"""The trainer of each stage, from one `Job`: TRL's where TRL has one, ours for ORPO. All with the same LoRA adapter.

What a stage adds to the others is what differs between these functions: a loss, a second model, a second data set.
"""

from dataclasses import dataclass

from transformers import AutoModelForSequenceClassification, PrinterCallback, TrainerCallback

from helpers.data.schema import COLUMNS
from helpers.data.tokenize import tokenize_preferences
from helpers.data.trl_format import as_text, sft_features
from helpers.techniques.budgets import Budget
from helpers.techniques.counting import TokenCounter
from helpers.training.orpo import ORPOConfig, ORPOTrainer
from helpers.training.recipe import lora


@dataclass
class Job:
    """What all stages share: a model to start from, the pairs, and the arguments of transformers' Trainer."""

    model: object
    tokenizer: object
    pairs: object
    profile: object
    budget: Budget
    arguments: dict
    callbacks: list[TrainerCallback]

    @property
    def common(self) -> dict:
        """The keyword arguments that every trainer takes."""
        adapter = {"peft_config": lora(self.profile)} if self.profile.lora_rank else {}
        return {"model": self.model, "processing_class": self.tokenizer, "callbacks": self.callbacks} | adapter


def sft_trainer(job: Job):
    """−log p(chosen), and nothing about the rejected answer."""
    from trl import SFTConfig, SFTTrainer

    features = sft_features(tokenize_preferences(job.pairs, job.tokenizer, job.profile.max_length))
    return SFTTrainer(
        args=SFTConfig(**job.arguments, completion_only_loss=True),
        train_dataset=features,
        **job.common,
    )


def orpo_trainer(job: Job, layout: str = "shared", chunked: bool = True):
    """−log p(chosen) − beta · log σ(log-odds(chosen) − log-odds(rejected)). One model, one stage.

    `layout="rows"` without `chunked` computes what TRL's trainers do: two rows a pair and all logits.
    """
    trainer = ORPOTrainer(
        args=ORPOConfig(**job.arguments, beta=job.profile.beta, layout=layout),
        train_dataset=job.pairs,
        **job.common,
    )
    trainer.chunked = trainer.chunked and chunked
    return trainer


def dpo_trainer(job: Job, precompute: bool = True):
    """−log σ(beta · (log-ratio(chosen) − log-ratio(rejected))), ratios of the policy to a frozen reference.

    The reference's log-probs never change: `precompute` takes them once, before training; else the reference runs in
    every step. TRL templates and ends answers in a way of its own: it gets rendered text.
    """
    from trl import DPOConfig, DPOTrainer

    args = job.arguments | {"learning_rate": job.budget.dpo_learning_rate}
    reference = TokenCounter(job.model)
    trainer = DPOTrainer(
        args=DPOConfig(**args, beta=job.budget.dpo_beta, precompute_ref_log_probs=precompute),
        train_dataset=as_text(job.pairs, job.tokenizer),
        **job.common,
    )
    reference.remove()
    trainer.forward_tokens = reference.forward  # none in TRL 0.24, where the reference runs when training begins
    return trainer


def reward_model(path: str, tokenizer):
    """A language model with a new head that gives an answer one number, its reward."""
    model = AutoModelForSequenceClassification.from_pretrained(path, num_labels=1)
    model.config.pad_token_id = tokenizer.pad_token_id
    return model


def reward_trainer(job: Job):
    """−log σ(reward(chosen) − reward(rejected)): Bradley and Terry's model of a preference."""
    from trl import RewardConfig, RewardTrainer

    args = job.arguments | {"learning_rate": job.budget.reward_learning_rate}
    adapter = job.common.get("peft_config")
    if adapter:
        adapter.task_type = "SEQ_CLS"  # the new head is trained in full beside the adapter
    pairs = job.pairs.select_columns(list(COLUMNS))
    return RewardTrainer(args=RewardConfig(**args), train_dataset=pairs, **job.common | {"peft_config": adapter})


def rloo_trainer(job: Job, reward):
    """−advantage · log p(answer) of answers that the policy samples; reward = reward model − kl_weight · KL(reference).

    RLOO (arXiv 2402.14740) is REINFORCE whose baseline is the mean reward of the prompt's other answers: the objective
    of RLHF to the letter, without PPO's value model. GRPO differs in dividing by the rewards' spread and, in TRL, in
    leaving the KL out by default.
    """
    from trl import RLOOConfig, RLOOTrainer

    budget, args = job.budget, {name: value for name, value in job.arguments.items() if name != "max_length"}
    # Autocast would round all weights anew for every sampled token: slower than float32 where nothing else is sampled
    args |= {"learning_rate": budget.rloo_learning_rate, "beta": budget.kl_weight, "bf16": False}
    args |= {"per_device_train_batch_size": budget.pairs_per_step * budget.completions}
    lengths = {"max_completion_length": budget.sampled_tokens}
    if "max_prompt_length" in RLOOConfig.__dataclass_fields__:  # TRL 0.24 cuts prompts to 512 tokens; later ones never
        lengths["max_prompt_length"] = None
    return RLOOTrainer(
        args=RLOOConfig(**args, **lengths, num_generations=budget.completions),
        train_dataset=job.pairs.select_columns(["prompt"]),
        reward_funcs=reward,
        reward_processing_classes=job.tokenizer,
        **job.common,
    )


def silenced(trainer):
    """The trainer without its own printing: LiveMonitor reports instead."""
    trainer.remove_callback(PrinterCallback)
    return trainer
