"""The sizes of a model, counted from its configuration alone: nothing is downloaded, and no weights are made.

Whatever reckons on paper takes them from here: memory and FLOPs of a step (`step_memory`), the tables of notebook 05,
the techniques' costs and the planner. The tests count the same models on torch's meta device.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

# Norms of the hidden size in a layer, by kind of model; each has linear layers as Llama has them
NORMS = {"llama": 2, "mistral": 2, "qwen2": 2, "qwen3": 2, "granite": 2, "smollm3": 2, "phi3": 2}
NORMS |= {"gemma": 2, "gemma2": 4, "gemma3_text": 4}
HEAD_NORMS = ("qwen3", "gemma3_text")  # a norm over each query head and each key head
# Kind, layers, hidden, intermediate, heads, key and value heads, size of a head, vocabulary, tied head, as in each
# repository's config.json on the Hugging Face hub. The hub was out of reach in November 2026: compared with copies in
# public repositories, and by the number of parameters that follows, which the tests compare with published ones
CONFIGS = {
    "HuggingFaceTB/SmolLM2-135M-Instruct": ("llama", 30, 576, 1536, 9, 3, 64, 49152, True),
    "Qwen/Qwen3-0.6B": ("qwen3", 28, 1024, 3072, 16, 8, 128, 151936, True),
    "Qwen/Qwen3-1.7B": ("qwen3", 28, 2048, 6144, 16, 8, 128, 151936, True),
    "Qwen/Qwen3-4B": ("qwen3", 36, 2560, 9728, 32, 8, 128, 151936, True),
    "Qwen/Qwen3-8B": ("qwen3", 36, 4096, 12288, 32, 8, 128, 151936, False),
    "Qwen/Qwen3-14B": ("qwen3", 40, 5120, 17408, 40, 8, 128, 151936, False),
    "Qwen/Qwen3-32B": ("qwen3", 64, 5120, 25600, 64, 8, 128, 151936, False),
    "meta-llama/Llama-3.2-1B": ("llama", 16, 2048, 8192, 32, 8, 64, 128256, True),
    "meta-llama/Llama-3.2-3B": ("llama", 28, 3072, 8192, 24, 8, 128, 128256, True),
    "meta-llama/Llama-3.1-8B": ("llama", 32, 4096, 14336, 32, 8, 128, 128256, False),
    "meta-llama/Llama-3.1-70B": ("llama", 80, 8192, 28672, 64, 8, 128, 128256, False),
    "meta-llama/Llama-2-7b-hf": ("llama", 32, 4096, 11008, 32, 32, 128, 32000, False),
    "mistralai/Mistral-7B-v0.3": ("mistral", 32, 4096, 14336, 32, 8, 128, 32768, False),
}


@dataclass(frozen=True)
class Sizes:
    """What of a model decides its memory and its work. `kv_heads` and `head_dim` follow from the others where 0."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    vocabulary: int
    parameters: int
    kv_heads: int = 0
    head_dim: int = 0
    tied: bool = True
    head_norms: bool = False
    kind: str = "llama"
    name: str = ""

    def __post_init__(self):
        object.__setattr__(self, "kv_heads", self.kv_heads or self.heads)
        object.__setattr__(self, "head_dim", self.head_dim or self.hidden // self.heads)

    @classmethod
    def of(cls, model) -> "Sizes":
        """The sizes of a loaded model of the Llama architecture."""
        return read(model.config, parameters=sum(p.numel() for p in model.parameters()))

    @property
    def embedding(self) -> int:
        """Weights of the embedding; those of the head are as many."""
        return self.vocabulary * self.hidden

    @property
    def queries(self) -> int:
        """All query heads beside each other, numbers a token."""
        return self.heads * self.head_dim

    @property
    def keys(self) -> int:
        """All key heads beside each other; value heads are as many."""
        return self.kv_heads * self.head_dim

    @property
    def linear(self) -> int:
        """Weights of a layer's seven matrices: query, key, value, output, gate, up and down."""
        return self.hidden * (2 * self.queries + 2 * self.keys + 3 * self.intermediate)

    def lora(self, rank: int) -> int:
        """Weights of an adapter of this rank beside every linear layer but the head."""
        sides = 4 * self.hidden + 2 * self.queries + 2 * self.keys + 3 * (self.hidden + self.intermediate)
        return rank * self.layers * sides

    def on_a_core(self, ranks: int) -> float:
        """Weights that each of `ranks` tensor-parallel cores holds. Norms and biases are on every core; so are key
        and value heads where there are fewer of them than cores, as `neuronx_distributed` copies them."""
        pairs = 2 * self.hidden * self.keys
        split = self.embedding * (1 if self.tied else 2) + self.layers * (self.linear - pairs)
        copied = self.layers * pairs * max(1 / ranks, 1 / self.kv_heads)
        return split / ranks + copied + self.parameters - split - self.layers * pairs

    def lora_on_a_core(self, rank: int, ranks: int) -> float:
        """Of the adapter, the side that a layer's split runs through is divided; seven sides stay whole."""
        whole = 7 * rank * self.layers * self.hidden
        return whole + (self.lora(rank) - whole) / ranks


def sizes_of(model) -> Sizes:
    """The sizes of a model. `model`: one of `CONFIGS`, in full or its last part; a folder with a `config.json`; the
    content of one; a configuration of transformers; or Sizes, as they are. A ValueError in one line otherwise."""
    if isinstance(model, Sizes):
        return model
    if isinstance(model, dict):
        return read(configured(model), name=model.get("_name_or_path") or model.get("model_type", ""))
    if not isinstance(model, str | Path):
        if not hasattr(model, "model_type"):
            raise ValueError(f"model {model!r} is no configuration: give a name, a folder, or a transformers config")
        return read(model)
    known = {name.split("/")[-1].lower(): name for name in CONFIGS}
    name = known.get(str(model).split("/")[-1].lower())
    if name and str(model).lower() in (name.lower(), name.split("/")[-1].lower()):
        return listed(name)
    file = Path(model) / "config.json"
    if not file.is_file():
        raise ValueError(
            f"model {str(model)!r}: its sizes are not known here; give a folder with its config.json, its "
            f"configuration (AutoConfig.from_pretrained), or one of {', '.join(CONFIGS)}"
        )
    return read(configured(json.loads(file.read_text(encoding="utf-8"))), name=Path(model).name)


def listed(name: str) -> Sizes:
    """The sizes of a model of `CONFIGS`."""
    kind, layers, hidden, intermediate, heads, kv_heads, head_dim, vocabulary, tied = CONFIGS[name]
    sizes = Sizes(layers, hidden, intermediate, heads, vocabulary, 0, kv_heads, head_dim, tied, kind in HEAD_NORMS)
    return with_parameters(sizes, kind, name.split("/")[-1])


def configured(values: dict):
    """A config.json as transformers completes it with what its kind of model takes for granted."""
    from transformers import AutoConfig

    values = {name: value for name, value in values.items() if name != "_name_or_path"}
    kind = values.pop("model_type", None)
    refuse_kind(kind)
    return AutoConfig.for_model(kind, **values)


def refuse_kind(kind) -> None:
    """Raise a ValueError for a kind of model whose weights are not counted here."""
    if kind not in NORMS:
        raise ValueError(f"model: its model_type is {kind!r}, whose weights are not counted; take {', '.join(NORMS)}")


def read(config, parameters: int | None = None, name: str = "") -> Sizes:
    """The sizes that a configuration of transformers tells; the parameters are counted unless they are given."""
    names = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "vocab_size")
    sizes = [getattr(config, each) for each in names]
    kind = config.model_type
    # A model that is loaded may be of a kind that can't be counted
    rest = (getattr(config, "num_key_value_heads", 0) or 0, getattr(config, "head_dim", 0) or 0)
    if parameters is None:
        refuse_kind(kind)
        refuse_sizes(config, names)
    found = Sizes(
        *sizes,
        parameters or 0,
        *rest,
        bool(getattr(config, "tie_word_embeddings", False)),
        kind in HEAD_NORMS,
        kind,
        name,
    )
    if parameters is not None:
        return found
    return with_parameters(found, kind, name or getattr(config, "_name_or_path", "") or kind, biases(config, found))


def refuse_sizes(config, names) -> None:
    """Raise a ValueError for a configuration that no model has."""
    for name in names:
        if not isinstance(getattr(config, name), int) or getattr(config, name) < 1:
            raise ValueError(f"model: its {name} is {getattr(config, name)!r}: give 1 or more, a whole number")
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    if not isinstance(kv_heads, int) or kv_heads < 1 or heads % kv_heads:
        raise ValueError(f"model: its num_key_value_heads {kv_heads!r} does not divide its num_attention_heads {heads}")


def biases(config, sizes: Sizes) -> int:
    """Biases of a layer's matrices: numbers beside the weights."""
    sides = sizes.queries + 2 * sizes.keys
    attention = sides if config.model_type == "qwen2" else 0
    if getattr(config, "attention_bias", False):
        attention = sides + sizes.hidden
    return attention + (2 * sizes.intermediate + sizes.hidden if getattr(config, "mlp_bias", False) else 0)


def with_parameters(sizes: Sizes, kind: str, name: str, biases: int = 0) -> Sizes:
    """The sizes with all parameters counted: embedding, head unless tied, matrices, biases and norms."""
    norms = NORMS[kind] * sizes.hidden + (2 * sizes.head_dim if sizes.head_norms else 0)
    count = sizes.embedding * (1 if sizes.tied else 2) + sizes.layers * (sizes.linear + biases + norms) + sizes.hidden
    return replace(sizes, parameters=count, kind=kind, name=name)
