"""Every model class of docs/models.md, tiny, and tokenised pairs of all lengths: what page and tests are made of.

Each is built from its config, with two layers and weights so large that masks and positions show in the numbers.
"""

import torch
import transformers
from datasets import Dataset
from transformers import AutoModelForCausalLM

from helpers.data.schema import SIDES
from helpers.objective.labels import IGNORE

LONGEST = 48  # tokens of a row that the table is about: windows of 16 are shorter, others are not

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 96, "max_position_embeddings": 512}
HEADS = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "intermediate_size": 64}
TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
DROPOUT = {"attention_dropout": 0.1, "hidden_dropout": 0.1, "dropout": 0.1, "activation_dropout": 0.1}
NO_DROPOUT = {"attention_dropout": 0.0, "hidden_dropout": 0.0}  # where a layer reads them from the config
COMMON = SIZES | HEADS | TOKENS | DROPOUT | {"initializer_range": 0.2}
OLD = TOKENS | {"vocab_size": 96, "n_embd": 32, "n_layer": 2, "n_head": 2, "initializer_range": 0.2}  # GPT-2's names
OLD |= {"n_positions": 512, "n_ctx": 512, "resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.1}
EXPERTS = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
LATENT = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16}
ROUTED = EXPERTS | LATENT | {"n_routed_experts": 4, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1}
ROUTED |= {"n_shared_experts": 1, "num_key_value_heads": 2, "head_dim": 8}
MAMBA2 = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_chunk_size": 8}
DELTA = {"linear_num_value_heads": 2, "linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
OMITTED = object()  # a name in COMMON that a config does not take
BOTH = ["linear_attention", "full_attention"]
KIMI = EXPERTS | LATENT | {"num_experts_per_token": 2, "linear_num_heads": 2, "linear_head_dim": 16}
KIMI |= {"layer_types": BOTH, "num_key_value_heads": 2, "q_lora_rank": None}

# {name: (config class, what its config differs in)}
MODELS = {
    "Llama": ("LlamaConfig", {}),
    "Llama, YaRN positions": ("LlamaConfig", {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}),
    "Mistral": ("MistralConfig", {"sliding_window": None}),
    "Mistral, window of 4,096": ("MistralConfig", {"sliding_window": 4096}),
    "Mistral, window of 16": ("MistralConfig", {"sliding_window": 16}),
    "Ministral": ("MinistralConfig", {"sliding_window": 4096}),
    "Qwen2": ("Qwen2Config", {}),
    "Qwen3": ("Qwen3Config", {}),
    "Gemma": ("GemmaConfig", {}),
    "Gemma 2": ("Gemma2Config", {"sliding_window": 4096}),
    "Gemma 2, window of 16": ("Gemma2Config", {"sliding_window": 16}),
    "Gemma 3": ("Gemma3TextConfig", {"sliding_window": 512}),
    "Gemma 3, window of 16": ("Gemma3TextConfig", {"sliding_window": 16}),
    "Phi": ("PhiConfig", {}),
    "Phi-3": ("Phi3Config", {"num_key_value_heads": 2}),
    "GPT": ("OpenAIGPTConfig", OLD),
    "GPT-2": ("GPT2Config", OLD),
    "GPT-BigCode": ("GPTBigCodeConfig", OLD),
    "GPT-Neo": (
        "GPTNeoConfig",
        {"num_layers": 2, "num_heads": 2, "attention_types": [[["global", "local"], 1]], "window_size": 16},
    ),
    "GPT-NeoX": ("GPTNeoXConfig", {}),
    "GPT-NeoX Japanese": ("GPTNeoXJapaneseConfig", {}),
    "GPT-J": ("GPTJConfig", OLD | {"rotary_dim": 8}),
    "CodeGen": ("CodeGenConfig", OLD | {"rotary_dim": 8, "hidden_size": 64, "num_attention_heads": 4}),
    "OPT": ("OPTConfig", {"ffn_dim": 64, "word_embed_proj_dim": 32, "init_std": 0.2}),
    "XGLM": ("XGLMConfig", {"d_model": 32, "num_layers": 2, "attention_heads": 2, "ffn_dim": 64, "init_std": 0.2}),
    "BioGPT": ("BioGptConfig", {}),
    "CTRL": ("CTRLConfig", OLD | {"dff": 64}),
    "Falcon, rotary": ("FalconConfig", NO_DROPOUT | {"alibi": False, "head_dim": OMITTED}),
    "Falcon, ALiBi": ("FalconConfig", NO_DROPOUT | {"alibi": True, "head_dim": OMITTED}),
    "BLOOM": ("BloomConfig", {"n_layer": 2, "n_head": 2}),
    "MPT": ("MptConfig", {"d_model": 32, "n_layers": 2, "n_heads": 2, "expansion_ratio": 2}),
    "Persimmon": ("PersimmonConfig", NO_DROPOUT),
    "StableLM": ("StableLmConfig", {}),
    "Starcoder2": ("Starcoder2Config", {}),
    "Cohere": ("CohereConfig", {}),
    "Cohere 2": ("Cohere2Config", {"sliding_window": 4096}),
    "OLMo": ("OlmoConfig", {}),
    "OLMo 2": ("Olmo2Config", {}),
    "OLMo 3": ("Olmo3Config", {"sliding_window": 4096}),
    "OLMoE": ("OlmoeConfig", EXPERTS),
    "Mixtral": ("MixtralConfig", EXPERTS),
    "Qwen2-MoE": ("Qwen2MoeConfig", EXPERTS | {"shared_expert_intermediate_size": 32}),
    "Qwen3-MoE": ("Qwen3MoeConfig", EXPERTS),
    "Phi-3.5-MoE": ("PhimoeConfig", EXPERTS | {"router_jitter_noise": 0.0, "input_jitter_noise": 0.0}),
    "gpt-oss": ("GptOssConfig", EXPERTS | {"sliding_window": 128}),
    "gpt-oss, window of 512": ("GptOssConfig", EXPERTS | {"sliding_window": 512}),
    "Llama 4": ("Llama4TextConfig", EXPERTS | {"intermediate_size_mlp": 64}),
    "DeepSeek-V2": ("DeepseekV2Config", ROUTED),
    "DeepSeek-V3": ("DeepseekV3Config", ROUTED),
    "DBRX": (
        "DbrxConfig",
        {
            "d_model": 32,
            "n_heads": 2,
            "n_layers": 2,
            "max_seq_len": 512,
            "attn_config": {"kv_n_heads": 1, "rope_theta": 10000.0, "clip_qkv": 8.0},
            "ffn_config": {"ffn_hidden_size": 64, "moe_num_experts": 4, "moe_top_k": 2},
        },
    ),
    "Granite": ("GraniteConfig", {"logits_scaling": 4.0}),
    "GraniteMoe": ("GraniteMoeConfig", EXPERTS),
    "SmolLM3": ("SmolLM3Config", {"no_rope_layers": [1, 0]}),
    "GLM": ("GlmConfig", {}),
    "GLM-4": ("Glm4Config", {}),
    "GLM-4 MoE": ("Glm4MoeConfig", ROUTED | {"num_key_value_heads": 1, "head_dim": 16}),
    "Nemotron": ("NemotronConfig", {}),
    "Helium": ("HeliumConfig", {}),
    "ERNIE 4.5": ("Ernie4_5Config", {}),
    "EXAONE 4": ("Exaone4Config", {"sliding_window": 4096}),
    "Hunyuan": ("HunYuanDenseV1Config", {}),
    "Seed-OSS": ("SeedOssConfig", {}),
    "Apertus": ("ApertusConfig", {}),
    "Arcee": ("ArceeConfig", {}),
    "DiffLlama": ("DiffLlamaConfig", NO_DROPOUT | {"num_key_value_heads": 2}),
    "dots.llm1": ("Dots1Config", ROUTED | {"num_key_value_heads": 1, "head_dim": 16, "sliding_window": 4096}),
    "BitNet": ("BitNetConfig", {}),
    "Doge": ("DogeConfig", {}),
    "MiniMax": ("MiniMaxConfig", EXPERTS | {"layer_types": BOTH, "block_size": 8}),
    "LFM2": ("Lfm2Config", {"layer_types": ["conv", "full_attention"], "block_ff_dim": 64}),
    "Mamba": ("MambaConfig", {"state_size": 8}),
    "Mamba-2": ("Mamba2Config", {"state_size": 8, "num_heads": 4, "head_dim": 16, "n_groups": 1, "chunk_size": 8}),
    "FalconMamba": ("FalconMambaConfig", {"state_size": 8}),
    "Falcon-H1": ("FalconH1Config", MAMBA2 | {"mamba_d_ssm": 64}),
    "Jamba": (
        "JambaConfig",
        EXPERTS
        | {
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "use_mamba_kernels": False,
            "mamba_d_state": 8,
            "mamba_dt_rank": 4,
        },
    ),
    "Bamba": ("BambaConfig", MAMBA2 | {"attn_layer_indices": [1]}),
    "GraniteMoeHybrid": (
        "GraniteMoeHybridConfig",
        EXPERTS | MAMBA2 | {"layer_types": ["mamba", "attention"], "shared_intermediate_size": 64},
    ),
    "Zamba": (
        "ZambaConfig",
        {
            "mamba_d_state": 8,
            "n_mamba_heads": 2,
            "use_mamba_kernels": False,
            "num_hidden_layers": 3,
            "layers_block_type": ["mamba", "hybrid", "hybrid"],
            "mamba_dt_rank": 4,
        },
    ),
    "Zamba2": (
        "Zamba2Config",
        {
            "mamba_d_state": 8,
            "n_mamba_heads": 4,
            "use_mem_rope": True,
            "layers_block_type": ["mamba", "hybrid"],
            "hybrid_layer_ids": [1],
            "chunk_size": 64,
            "num_key_value_heads": 2,
            "adapter_rank": 4,
        },
    ),
    "Nemotron-H": (
        "NemotronHConfig",
        EXPERTS | {"mamba_num_heads": 4, "mamba_head_dim": 16, "ssm_state_size": 8, "n_groups": 1, "chunk_size": 8},
    ),
    "Qwen3-Next": ("Qwen3NextConfig", EXPERTS | DELTA | {"layer_types": BOTH, "shared_expert_intermediate_size": 32}),
    "Qwen3.5": ("Qwen3_5TextConfig", DELTA | {"layer_types": BOTH}),
    "Kimi Linear": ("KimiLinearConfig", KIMI),
    "RWKV": ("RwkvConfig", {"attention_hidden_size": 32}),
    "RecurrentGemma": (
        "RecurrentGemmaConfig",
        {"lru_width": 32, "block_types": ["recurrent", "attention"], "attention_window_size": 16},
    ),
    "xLSTM": ("xLSTMConfig", {"num_heads": 2}),
}

# What a class can't do, and what the tests do instead
FOUR = transformers.__version__.startswith("4.")
# Their code makes float32 tensors of its own
FLOAT32 = {"XGLM", "MPT", "Gemma 2, window of 16", "DeepSeek-V3", "GLM-4 MoE", "dots.llm1", "Kimi Linear"}
QUERY_VALUE = ["q_proj", "v_proj"]
LORA_ON = {  # PEFT's "all-linear" is refused for Mamba's out_proj, and fails on a router that returns two tensors
    "Mamba": ["in_proj", "x_proj"],
    "Mamba-2": ["in_proj"],
    "FalconMamba": ["in_proj", "x_proj"],
    "Falcon-H1": ["in_proj", *QUERY_VALUE],
    "Nemotron-H": ["in_proj", *QUERY_VALUE],
    "Llama 4": QUERY_VALUE,
    "Phi-3.5-MoE": QUERY_VALUE,
}
NO_BF16 = set() if FOUR else {"DBRX"}  # its experts add bf16 to float32
IGNORES_CHECKPOINTING = {"GPT-BigCode"} if FOUR else set()


def available() -> list[str]:
    """The models that this transformers has."""
    return [name for name, (kind, _) in MODELS.items() if hasattr(transformers, kind)]


def tiny_model(name: str, **config):
    """The class of that name in `MODELS` with two layers of 32 channels; the same weights at every call."""
    kind, differs = MODELS[name]
    settings = {key: value for key, value in (COMMON | differs | config).items() if value is not OMITTED}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(getattr(transformers, kind)(**settings))
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")  # the grouped matrix product has no float64
    return model


def drawn_pairs(*lengths: tuple[int, int, int], seed: int = 0) -> Dataset:
    """Tokenised pairs with so many tokens of prompt, chosen and rejected; prompts begin alike, answers end in EOS."""
    draw, rows = torch.Generator().manual_seed(seed), []

    def tokens(count: int) -> list[int]:
        return torch.randint(3, SIZES["vocab_size"], (max(count, 0),), generator=draw).tolist()

    for row, (asked, *answered) in enumerate(lengths):
        prompt, pair = [1, 5, 6, 7][:asked] + tokens(asked - 4), {"row": row, "prompt_length": asked}
        for side, count in zip(SIDES, answered, strict=True):
            answer = [*tokens(count - 1), TOKENS["eos_token_id"]]
            pair |= {f"{side}_input_ids": prompt + answer, f"{side}_labels": [IGNORE] * asked + answer}
        rows.append(pair)
    return Dataset.from_list(rows)


PAIRS = drawn_pairs((12, 9, 5), (20, 3, 14), (1, 4, 2), (9, 1, 6), (3, 1, 1), (17, 14, 15))
