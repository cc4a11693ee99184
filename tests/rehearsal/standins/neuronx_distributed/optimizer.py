"""ZeRO-1 over the data-parallel group: torch-xla's own optimizer, with the gradient norm of a tensor-parallel model."""

import torch
import torch_xla.core.xla_model as xm
from torch_xla.distributed.zero_redundancy_optimizer import ZeroRedundancyOptimizer

from neuronx_distributed.parallel_layers.parallel_state import (
    get_tensor_model_parallel_size,
    model_parallel_is_initialized,
)
from neuronx_distributed.parallel_layers.utils import param_is_not_tensor_parallel_duplicate


class NeuronZero1Optimizer(ZeroRedundancyOptimizer):
    def __init__(self, *args, **kwargs):
        if not model_parallel_is_initialized():
            raise RuntimeError("initialize_model_parallel must be called before the optimizer is made")
        super().__init__(*args, **kwargs)

    def _shard_parameters(self):
        """As torch-xla does it, which insists on XLA tensors."""
        if self.param_groups[0]["params"][0].device.type == "xla":
            return super()._shard_parameters()
        self.device = torch.device("cpu")
        return [group | {"params": [self._shard(p) for p in group["params"]]} for group in self.param_groups]

    def _shard(self, parameter):
        data = self._shard_tensor(parameter.data).to(self.optimizer_dtype, copy=True)
        shard = torch.nn.Parameter(data, requires_grad=parameter.requires_grad)
        if self.use_grad_acc_hook:
            self._register_hook(parameter, shard)
        return shard

    @torch.no_grad()
    def _calc_grad_norm(self, norm_type=2.0):
        """A parameter that every tensor-parallel rank has a copy of counts once."""
        if get_tensor_model_parallel_size() == 1:
            return super()._calc_grad_norm(norm_type)
        total = torch.zeros([], dtype=self.optimizer_dtype, device=self.device)
        for group, sharded in zip(self.param_groups, self.base_optimizer.param_groups, strict=True):
            for parameter, shard in zip(group["params"], sharded["params"], strict=True):
                if shard.grad is not None and param_is_not_tensor_parallel_duplicate(parameter):
                    total += (shard.grad.detach() ** 2).sum()
        for groups in (self._sharding_groups, self._grad_norm_groups):
            xm.all_reduce(xm.REDUCE_SUM, [total], groups=groups, pin_layout=self.pin_layout)
        return total.sqrt()
