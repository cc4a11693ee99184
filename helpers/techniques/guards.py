"""Settings that make a technique's result worthless stop it, with a message that says what to change."""

import math

import numpy as np
from transformers import TrainerCallback

from helpers.evaluation.intervals import bootstrap_ci
from helpers.evaluation.scores import PairScores


def refuse_unlearned_reward(chosen, rejected, groups=None, floor: float = 0.5) -> tuple[float, list[float]]:
    """The reward model's accuracy on held-out pairs and its 95% interval, from its rewards (n,) for both answers.

    Raises ValueError if the interval reaches down to `floor` or if the rewards are not finite: a policy that is
    optimised against guesses learns noise.
    """
    chosen, rejected = np.asarray(chosen, dtype=float), np.asarray(rejected, dtype=float)
    bad = np.flatnonzero(~(np.isfinite(chosen) & np.isfinite(rejected)))
    if len(bad):
        raise ValueError(f"the reward of held-out pair {bad[0]} is not finite: lower the reward model's learning rate")
    wins = PairScores(chosen, rejected).wins
    accuracy, interval = float(wins.mean()), bootstrap_ci(wins, groups=groups)
    if interval[0] <= floor and floor > 0:
        raise ValueError(
            f"the reward model prefers the right answer in {accuracy:.0%} of {len(wins)} held-out pairs (95% interval "
            f"{interval[0]:.0%} to {interval[1]:.0%}), which guessing may do too: train it on more pairs or for more "
            "steps before a policy is optimised against it"
        )
    return accuracy, interval


class StopOnKL(TrainerCallback):
    """Stops policy optimisation once it has left the reference behind: `limit` in nats a token.

    The model is kept as it is then, and `stopped` says why: that RLHF may end so is part of its comparison. A KL that
    is no number ends it with a RuntimeError, since the weights are lost.
    """

    def __init__(self, limit: float):
        self.limit = limit
        self.stopped: str | None = None

    def on_log(self, args, state, control, logs=None, **kwargs):
        kl = (logs or {}).get("kl")
        if kl is None or kl <= self.limit:
            return
        fix = "lower rloo_learning_rate or raise kl_weight"
        if not math.isfinite(kl):
            raise RuntimeError(f"KL to the reference is {kl} at step {state.global_step}: {fix}")
        self.stopped = (
            f"stopped at step {state.global_step} of {state.max_steps}: KL to the reference is {kl:.2f} nats a token "
            f"(limit {self.limit:g}), so the policy has left what the reward model can judge; {fix}"
        )
        print(f"\n{self.stopped}")
        control.should_training_stop = True


class RefuseOtherReference(TrainerCallback):
    """Ends DPO with a ValueError at its first step unless the reference is the model that it starts from.

    Policy and reference are then the same, every log-ratio is 0 and the loss is log 2, whatever beta and the pairs are.
    """

    def __init__(self, tolerance: float = 0.05):
        self.tolerance = tolerance

    def on_log(self, args, state, control, logs=None, **kwargs):
        loss = (logs or {}).get("loss")
        if state.global_step == 1 and loss is not None and not abs(loss - math.log(2)) <= self.tolerance:
            raise ValueError(
                f"DPO's first loss is {loss:.3f} where policy and reference agree on log 2 = {math.log(2):.3f}: the "
                "reference log-probs are those of another model or tokenizer; make them anew with this one"
            )
