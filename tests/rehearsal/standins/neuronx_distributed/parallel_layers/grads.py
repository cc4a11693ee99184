"""Gradients of a data-parallel group of one: their sum is themselves, their norm is torch's."""

from torch.nn.utils import clip_grad_norm_

from neuronx_distributed.absent import absent


def bucket_allreduce_gradients(gradients, **kwargs):
    return gradients


def clip_grad_norm(parameters, max_norm, norm_type=2.0, **kwargs):
    return clip_grad_norm_(list(parameters), max_norm, norm_type)


__getattr__ = absent(__name__)
