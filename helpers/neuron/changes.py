"""What the workshop's trainers change in Optimum Neuron 0.4.5, for SFT, ORPO and DPO alike.

Why, and what happens without each: docs/optimum_neuron_changes.md.
"""

import torch_xla.runtime as xr

from helpers.neuron.partial_sums import fix_partial_sums
from helpers.neuron.zero import fix_zero_1

CHANGES = (fix_zero_1, fix_partial_sums)


class Changed:
    """Goes before a NeuronTrainer in a class's bases; the class calls `change` at the end of its `__init__`."""

    def is_world_process_zero(self) -> bool:
        """True on one process of all. Upstream's reads a rank that is 0 everywhere (`args.process_index`)."""
        return xr.global_ordinal() == 0

    def change(self) -> None:
        """Apply the changes, and say so in one line."""
        told = [what for change in CHANGES for what in change(self)]
        if told and self.is_world_process_zero():
            print(f"Changed in Optimum Neuron: {'; '.join(told)} (docs/optimum_neuron_changes.md)", flush=True)
