"""ZeRO-1 over a data-parallel group of one: torch-xla's own optimizer, which this one extends for several cores."""

from torch_xla.distributed.zero_redundancy_optimizer import ZeroRedundancyOptimizer


class NeuronZero1Optimizer(ZeroRedundancyOptimizer):
    pass
