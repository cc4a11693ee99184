from neuronx_distributed.absent import absent


def _identity(tensor, *args, **kwargs):
    return tensor


copy_to_tensor_model_parallel_region = reduce_from_tensor_model_parallel_region = _identity
__getattr__ = absent(__name__)
