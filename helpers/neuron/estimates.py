"""What fits on a NeuronCore, what padding costs and what a shared row saves: arithmetic, labelled as such."""

from dataclasses import dataclass

GIB = 2**30
CORE_MEMORY = 16 * GIB  # trn1: 32 GiB for two cores


@dataclass(frozen=True)
class Shape:
    """The sizes of a model that decide its memory."""

    name: str
    parameters: float
    layers: int
    hidden: int
    intermediate: int
    heads: int
    vocabulary: int


MODELS = (
    Shape("Qwen3-0.6B", 0.60e9, 28, 1024, 3072, 16, 151_936),
    Shape("Llama-3.2-1B", 1.24e9, 16, 2048, 8192, 32, 128_256),
    Shape("Qwen3-1.7B", 1.72e9, 28, 2048, 6144, 16, 151_936),
)


def memory_per_core(shape: Shape, pairs: int, length: int, cores: int, lora_rank: int = 16) -> float:
    """Bytes on one core for ORPO with LoRA in bf16, both answers of `pairs` pairs in rows of `length` tokens.

    Weights (2 bytes); adapter with AdamW (weight, gradient, two moments, a float32 copy: 16 bytes); what the backward
    pass needs (about 30 bytes a token and hidden unit and 4 an attention score a layer, after Korthikanti et al. 2022,
    arXiv 2205.05198); the logits in bf16, in float32, and their gradient. An estimate, for choosing what to try first:
    the compiler's own buffers come on top.
    """
    rows = 2 * pairs
    weights = 2 * shape.parameters
    adapter = 16 * lora_rank * shape.layers * (8 * shape.hidden + 3 * (shape.hidden + shape.intermediate))
    kept = rows * length * shape.layers * (30 * shape.hidden + 4 * shape.heads * length)
    logits = rows * length * shape.vocabulary * (2 + 4 + 4)
    return (weights + adapter + kept + logits) / cores


def memory_table(lora_rank: int = 16) -> str:
    """Markdown: model, pairs a core-group, length, cores, estimated GiB a core, and whether it fits trn1's 16."""
    lines = ["| model | pairs | length | cores (tensor parallel) | GiB a core, estimated | fits 16 GiB |"]
    lines.append("|---|---|---|---|---|---|")
    for shape in MODELS:
        for pairs, length, cores in ((1, 512, 1), (4, 512, 1), (2, 512, 2), (4, 1024, 2), (4, 512, 8)):
            need = memory_per_core(shape, pairs, length, cores, lora_rank)
            fits = "yes" if need < 0.8 * CORE_MEMORY else "tight" if need < CORE_MEMORY else "no"
            lines.append(f"| {shape.name} | {pairs} | {length} | {cores} | {need / GIB:.1f} | {fits} |")
    return "\n".join(lines)


def step_flops(shape: Shape, tokens: int, keys: float) -> float:
    """FLOPs of one forward pass over `tokens` positions that each attend to `keys`: 2 a weight, 4 a key and layer."""
    return tokens * (2 * shape.parameters + 4 * shape.layers * shape.hidden * keys)


def shared_saving(shape: Shape, prompt: int, response: int) -> tuple[float, float, float]:
    """One shared row a pair beside two rows, without padding: (share of FLOPs saved against eager attention, the same
    against the flash kernel, which skips the upper half, GiB of attention scores a layer that the flash kernel would
    not keep, bf16)."""
    row, shared = prompt + response, prompt + 2 * response + 1
    ours = step_flops(shape, shared, shared)
    eager, flash = (step_flops(shape, 2 * row, keys) for keys in (row, row / 2))
    return 1 - ours / eager, 1 - ours / flash, 2 * shape.heads * shared**2 / GIB


def saving_table(shape: Shape = MODELS[0]) -> str:
    """Markdown: what the shared layout would save on paper, for several lengths of prompt and response."""
    lines = ["| prompt | response | FLOPs saved, against eager | against the flash kernel | scores kept, GiB a layer |"]
    lines.append("|---|---|---|---|---|")
    for prompt, response in ((64, 64), (64, 256), (256, 64), (512, 256), (1024, 256)):
        eager, flash, scores = shared_saving(shape, prompt, response)
        lines.append(f"| {prompt} | {response} | {eager:.0%} | {flash:.0%} | {scores:.3f} |")
    return "\n".join(lines)


def padding_share(lengths: list[int], max_length: int) -> tuple[float, float]:
    """(share of positions that are padding, share of rows that are cut) if every row is `max_length` long."""
    used = sum(min(length, max_length) for length in lengths)
    return 1 - used / (max_length * len(lengths)), sum(length > max_length for length in lengths) / len(lengths)
