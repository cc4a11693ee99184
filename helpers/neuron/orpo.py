"""ORPO on Trainium through Optimum Neuron's NeuronTrainer: the objective of `helpers.training.orpo`, in fixed shapes.

Objective and metrics are those of `helpers.training.orpo`; log-probs those of `helpers.neuron.logprobs`, and shapes,
logging and refusals those of `helpers.neuron.preference`, which DPO shares.
"""

from dataclasses import dataclass, field

from helpers.neuron.logprobs import mean_pair_logps
from helpers.neuron.preference import NeuronPreferenceConfig, NeuronPreferenceTrainer
from helpers.objective.odds_ratio import orpo_loss
from helpers.training.orpo import orpo_metrics


@dataclass
class NeuronORPOConfig(NeuronPreferenceConfig):
    """NeuronTrainingArguments and what ORPO adds to them. Every row is padded to `max_length`."""

    beta: float = field(default=0.1, metadata={"help": "weight of the odds-ratio term; λ in the paper"})

    def __post_init__(self):
        super().__post_init__()
        if self.beta < 0:
            raise ValueError(f"beta is {self.beta}: the weight of the odds-ratio term can't be negative")


class NeuronORPOTrainer(NeuronPreferenceTrainer):
    """Train with ORPO on preference pairs (`prompt`, `chosen`, `rejected`), or on the output of `tokenize_preferences`.

    `model` comes from `optimum.neuron.models.training.NeuronModelForCausalLM.from_pretrained(path, args.trn_config)`.
    Raises ValueError, before anything is compiled, for what NeuronTrainer can't do.
    """

    method = "ORPO"

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """L_ORPO of one micro-batch, a scalar, times its share of the update as NeuronTrainer expects."""
        chosen_logps, rejected_logps = mean_pair_logps(model, inputs, self.response_length)
        loss = orpo_loss(-chosen_logps, chosen_logps, rejected_logps, self.args.beta)
        chosen, rejected = chosen_logps.detach(), rejected_logps.detach()
        return self.finish_loss(loss, orpo_metrics(-chosen, chosen, rejected, self.args.beta), inputs, return_outputs)
