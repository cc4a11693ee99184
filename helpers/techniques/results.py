"""Recorded comparisons (docs/results/techniques-*.json): reading them, what follows from them, where they came from."""

from helpers.evaluation.intervals import mean_and_interval
from helpers.runs.recorded import provenance, read_recorded, with_seeds
from helpers.techniques.budgets import STAGES
from helpers.training.profiles import PROFILES

COMMAND = "make techniques"


def recorded() -> list[dict]:
    """The recorded comparisons by seed; a FileNotFoundError says how to record one."""
    return read_recorded("techniques-seed*.json", "comparison of the techniques", COMMAND)


def recorded_memory() -> dict:
    """The recorded memory of each technique; a FileNotFoundError says how to record it."""
    return read_recorded("techniques-memory.json", "memory of the techniques", COMMAND)[0]


# ── what a technique bought ─────────────────────────────────────────────────────────────────────────────────


def last_name(technique: str, by_seconds: bool) -> str:
    """The name of a technique's last stage. DPO, which sets the seconds of all, has one for both budgets."""
    return f"{technique}-seconds" if by_seconds and technique != "dpo" else technique


def last_stage(record: dict, technique: str, by_seconds: bool) -> dict | None:
    """The result of a technique's last stage; None where there was no time left for it, as may happen to RLHF."""
    return record["stages"].get(last_name(technique, by_seconds))


def over_stages(record: dict, technique: str, by_seconds: bool, value: str) -> float:
    """A cost summed over all stages of a technique."""
    *before, _ = STAGES[technique]
    return sum(record["stages"][name][value] for name in before) + last_stage(record, technique, by_seconds)[value]


def lead(records: list[dict], first: str, second: str, by_seconds: bool) -> tuple[float, float, float]:
    """Points of preference accuracy by which one technique is ahead of another: mean over seeds and its interval."""
    key = "preference_accuracy"
    ends = [[last_stage(record, name, by_seconds)[key] for name in (first, second)] for record in records]
    return mean_and_interval([100 * (one - other) for one, other in ends])


def score(record: dict, technique: str, by_seconds: bool) -> float:
    """Mean reward of the technique's answers to held-out questions above that of the base's answers.

    By the reward model that RLHF was trained on. Its zero means nothing and differs from seed to seed.
    """
    return record["rewards"][last_name(technique, by_seconds)] - record["rewards"]["base"]


def change(records: list[dict], beta: str, side: str) -> tuple[float, float, float]:
    """By how much a log-prob moved from the base to the end of training with a beta: mean and interval over seeds."""
    curves = [record["betas"][beta] for record in records]
    return mean_and_interval([curve[-1][f"{side}_logp"] - curve[0][f"{side}_logp"] for curve in curves])


# ── what a technique needs ──────────────────────────────────────────────────────────────────────────────────


def memory_cases(memory: dict, lora: bool) -> dict[str, dict]:
    """The measured cases by technique, trained in full or with LoRA."""
    return {c["case"]["technique"]: c for c in memory["cases"] if bool(c["case"]["lora_rank"]) == lora}


def peaks_gib(case: dict) -> list[float]:
    """The measured peaks of a case, one a seed, in GiB above the loaded base."""
    return [peak / 2**30 for peak in case["peaks"]]


# ── where the numbers came from ─────────────────────────────────────────────────────────────────────────────


def provenance_of(records: list[dict]) -> str:
    """From which command, profile, seeds, machine and days recorded comparisons came."""
    return provenance(with_seeds(f"{COMMAND}, profile {records[0]['profile']}", records), records)


def setting(records: list[dict]) -> str:
    """On how much data, in which layout and precision, with which settings, and how fast the machine was."""
    first = records[0]
    profile, budget = PROFILES[first["profile"]], first["budget"]
    speeds = ", ".join(f"{record['machine']['gflops']:.0f}" for record in records)
    return (
        f"{budget['pairs']} pairs a stage, {first['heldout_pairs']} held-out pairs; LoRA, "
        f"{first['stages']['dpo']['precision']} (RLHF's last stage: float32); brackets: 95% over the seeds (Student's "
        f"t). ORPO in shared rows, all others in TRL's padded rows. ORPO's β {budget['orpo_beta']:g}, DPO's "
        f"{budget['dpo_beta']:g}; learning rate {profile.learning_rate:g} (SFT, ORPO), "
        f"{budget['dpo_learning_rate']:g} (DPO). Matrix products as each seed began: {speeds} GFLOP a second"
    )


def memory_origin(memory: dict) -> str:
    """From which command, machine and date the memory came, and over how many seeds."""
    return f"{provenance(COMMAND, [memory])}; brackets: 95% over {len(memory['cases'][0]['peaks'])} seeds"


def memory_provenance(memory: dict) -> str:
    """The same, and what was measured."""
    step = memory["cases"][0]["step"]
    return (
        f"{memory_origin(memory)}; SmolLM2-135M in float32, AdamW, {step['pairs']} pairs of {step['prompt']} + "
        f"{step['response']} tokens, a fresh process each; resident set, with glibc told to give back what is freed"
    )
