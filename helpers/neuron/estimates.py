"""What fits on a NeuronCore, what padding costs and what a shared row saves: arithmetic, labelled as such."""

from helpers.training.sizes import Sizes, sizes_of
from helpers.training.step_memory import BFLOAT16, TECHNIQUES, Split, forward_flops, step_memory

GIB = 2**30
CORE_MEMORY = 16 * GIB  # trn1: 32 GiB for two cores
MODELS = tuple(map(sizes_of, ("Qwen3-0.6B", "Llama-3.2-1B", "Qwen3-1.7B")))


def memory_per_core(
    sizes: Sizes,
    pairs: int,
    length: int,
    cores: int,
    lora_rank: int = 16,
    max_response_length: int | None = None,
) -> float:
    """Bytes on one core for ORPO with LoRA in bf16, both answers of `pairs` pairs in rows of `length` tokens.

    max_response_length: positions of each answer that get logits, as the trainers have it; all unless given.

    The sum of the parts that `helpers.training.step_memory` lists. An estimate, for choosing what to try first: the
    compiler's own buffers come on top. `helpers.sagemaker.plan` takes more of a job into account.
    """
    split = Split(tensor_parallel=cores, lora_rank=lora_rank)
    scored = 2 * pairs * min(max_response_length or length, length)
    count, method = 2 * pairs * length, TECHNIQUES["orpo"]
    return sum(step_memory(sizes, method, count, length, BFLOAT16, split, scored=scored).values())


def memory_table(lora_rank: int = 16, max_response_length: int | None = None) -> str:
    """Markdown: model, pairs a core-group, length, cores, estimated GiB a core, and whether it fits trn1's 16.

    Logits are those of all positions, as where answers are as long as rows, unless `max_response_length` is given.
    """
    lines = ["| model | pairs | length | cores (tensor parallel) | GiB a core, estimated | fits 16 GiB |"]
    lines.append("|---|---|---|---|---|---|")
    for sizes in MODELS:
        for pairs, length, cores in ((1, 512, 1), (4, 512, 1), (2, 512, 2), (4, 1024, 2), (4, 512, 8)):
            need = memory_per_core(sizes, pairs, length, cores, lora_rank, max_response_length)
            fits = "yes" if need < 0.8 * CORE_MEMORY else "tight" if need < CORE_MEMORY else "no"
            lines.append(f"| {sizes.name} | {pairs} | {length} | {cores} | {need / GIB:.1f} | {fits} |")
    return "\n".join(lines)


def shared_saving(sizes: Sizes, prompt: int, response: int) -> tuple[float, float, float]:
    """One shared row a pair beside two rows, without padding: (share of FLOPs saved against eager attention, the same
    against the flash kernel, which skips the upper half, GiB of attention scores a layer that the flash kernel would
    not keep, bf16)."""
    row, shared = prompt + response, prompt + 2 * response + 1
    ours = forward_flops(sizes, shared, shared)
    eager, flash = (forward_flops(sizes, 2 * row, keys) for keys in (row, row / 2))
    return 1 - ours / eager, 1 - ours / flash, 2 * sizes.heads * shared**2 / GIB


def saving_table(sizes: Sizes = MODELS[0]) -> str:
    """Markdown: what the shared layout would save on paper, for several lengths of prompt and response."""
    lines = ["| prompt | response | FLOPs saved, against eager | against the flash kernel | scores kept, GiB a layer |"]
    lines.append("|---|---|---|---|---|")
    for prompt, response in ((64, 64), (64, 256), (256, 64), (512, 256), (1024, 256)):
        eager, flash, scores = shared_saving(sizes, prompt, response)
        lines.append(f"| {prompt} | {response} | {eager:.0%} | {flash:.0%} | {scores:.3f} |")
    return "\n".join(lines)


def padding_share(lengths: list[int], max_length: int) -> tuple[float, float]:
    """(share of positions that are padding, share of rows that are cut) if every row is `max_length` long."""
    used = sum(min(length, max_length) for length in lengths)
    return 1 - used / (max_length * len(lengths)), sum(length > max_length for length in lengths) / len(lengths)
