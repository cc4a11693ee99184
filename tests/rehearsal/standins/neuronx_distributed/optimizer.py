"""ZeRO-1 over a data-parallel group of one: torch-xla's own optimizer, with the options it does not know left out."""

from torch_xla.distributed.zero_redundancy_optimizer import ZeroRedundancyOptimizer


class NeuronZero1Optimizer(ZeroRedundancyOptimizer):
    def __init__(self, params, optimizer_class, **kwargs):
        for name in ("use_grad_acc_hook", "higher_cc_precision", "save_master_weights"):
            kwargs.pop(name, None)
        super().__init__(params, optimizer_class, **kwargs)
        self._grad_norm = None

    def _clip_grad_norm(self, max_norm, norm_type=2.0):
        self._grad_norm = super()._clip_grad_norm(max_norm, norm_type)
        return self._grad_norm
