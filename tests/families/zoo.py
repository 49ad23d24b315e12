"""Tiny random models of each family, with the field values of real configs in small.

What differs between a family and Llama is kept: the share of a head that is rotated, biases, windows, soft caps, norms
of queries and keys, multipliers, shared keys, experts. Only sizes are small. Norms and biases are random too: at their
initial values (one, zero) a wrong formula would not show.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    PretrainedConfig,
    PreTrainedModel,
)

VOCABULARY = 96
SIZES: dict[str, object] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
FULL, SLIDING, LINEAR = "full_attention", "sliding_attention", "linear_attention"
MIXED: dict[str, object] = {"sliding_window": 8, "layer_types": [SLIDING, FULL]}
EXPERTS: dict[str, object] = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}
ROUTED: dict[str, object] = {
    **EXPERTS, "n_routed_experts": 8, "n_shared_experts": 1, "first_k_dense_replace": 1, "routed_scaling_factor": 2.5,
    "norm_topk_prob": True, "n_group": 2, "topk_group": 1,
}  # fmt: skip
LATENT: dict[str, object] = {
    "q_lora_rank": 24, "kv_lora_rank": 32, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16, "v_head_dim": 16,
    "head_dim": 8, "num_key_value_heads": 4,
}  # fmt: skip
DELTA: dict[str, object] = {
    "layer_types": [LINEAR, FULL], "linear_conv_kernel_dim": 4, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "head_dim": 32,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e7, "partial_rotary_factor": 0.25},
}  # fmt: skip
MAMBA: dict[str, object] = {
    "mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 16, "mamba_n_groups": 1, "mamba_chunk_size": 8,
}  # fmt: skip
VISION: dict[str, object] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28,
    "patch_size": 14,
}  # fmt: skip
PIXTRAL: dict[str, object] = {**VISION, "model_type": "pixtral", "head_dim": 16}
QWEN_VISION: dict[str, object] = {
    "hidden_size": 32, "intermediate_size": 48, "depth": 2, "num_heads": 2, "patch_size": 14, "out_hidden_size": 64,
    "num_position_embeddings": 16,
}  # fmt: skip
INTERLEAVED = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [4, 2, 2], "mrope_interleaved": True}


def rotated(share: float, theta: float = 1e4) -> dict[str, object]:
    """The rotary embedding of a share of each head."""
    return {"rope_parameters": {"rope_type": "default", "rope_theta": theta, "partial_rotary_factor": share}}


YARN = {
    "rope_type": "yarn", "rope_theta": 1e6, "factor": 16.0, "original_max_position_embeddings": 32, "beta_fast": 32.0,
    "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1, "max_position_embeddings": 512,
}  # fmt: skip
OLMO_YARN = {
    "rope_type": "yarn", "rope_theta": 5e5, "factor": 8.0, "original_max_position_embeddings": 64,
    "attention_factor": 1.2079441541679836, "beta_fast": 32.0, "beta_slow": 1.0,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 5e5, "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tiny:
    """A family: transformers' model type, and what its config has besides `SIZES`."""

    model_type: str
    changes: dict[str, object] = field(default_factory=dict)
    vision: dict[str, object] | None = None  # of a wrapper around the text model
    text_type: str = ""  # of a wrapper

    def config(self) -> PretrainedConfig:
        """Its config."""
        values = {**SIZES, **self.changes}
        if self.vision is not None:
            text = AutoConfig.for_model(self.text_type, **values).to_dict()
            tied = text.get("tie_word_embeddings", False)
            values = {"text_config": text, "vision_config": self.vision, "tie_word_embeddings": tied}
        config: PretrainedConfig = AutoConfig.for_model(self.model_type, **values)
        return config


GEMMA3: dict[str, object] = {
    **MIXED, "query_pre_attn_scalar": 24, "rms_norm_eps": 1e-6,
    "rope_parameters": {
        FULL: {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
        SLIDING: {"rope_type": "default", "rope_theta": 1e4},
    },
}  # fmt: skip
LONGROPE: dict[str, object] = {
    "rope_type": "longrope", "rope_theta": 1e4, "partial_rotary_factor": 0.75, "original_max_position_embeddings": 64,
    "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5], "long_factor": [1.0, 1.6, 2.4, 5.0, 12.0, 24.0],
}  # fmt: skip
GEMMA4: dict[str, object] = {
    **MIXED, "head_dim": 16, "per_layer_config": {"1": {"head_dim": 32}}, "vocab_size_per_layer_input": VOCABULARY,
    "hidden_size_per_layer_input": 8,
}  # fmt: skip
ZOO = {
    "llama": Tiny("llama"),
    "llama 3.2": Tiny("llama", {"tie_word_embeddings": True, "rope_parameters": LLAMA3}),
    "qwen2": Tiny("qwen2"),
    "qwen3": Tiny("qwen3", {"head_dim": 32, "tie_word_embeddings": True}),
    "qwen3_moe": Tiny("qwen3_moe", {**EXPERTS, "num_local_experts": 8, "norm_topk_prob": True}),
    "qwen3_next": Tiny("qwen3_next", {**DELTA, **EXPERTS, "num_experts": 8, "shared_expert_intermediate_size": 32}),
    "qwen3_5_text": Tiny("qwen3_5_text", DELTA),
    "qwen3_5_moe_text": Tiny(
        "qwen3_5_moe_text", {**DELTA, **EXPERTS, "num_experts": 8, "shared_expert_intermediate_size": 32}
    ),
    "mistral": Tiny("mistral", {"sliding_window": None}),
    "mistral 0.1": Tiny("mistral", {"sliding_window": 8}),
    "ministral": Tiny("ministral", {**MIXED, "head_dim": 32}),
    "ministral3": Tiny("ministral3", {"rope_parameters": YARN, "head_dim": 32}),
    "mixtral": Tiny("mixtral", {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "gemma": Tiny("gemma", {"head_dim": 32, "num_key_value_heads": 1}),
    "gemma2": Tiny(
        "gemma2",
        {**MIXED, "query_pre_attn_scalar": 24, "attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0},
    ),
    "gemma3_text": Tiny("gemma3_text", GEMMA3),
    "gemma3n_text": Tiny(
        "gemma3n_text",
        {
            "num_hidden_layers": 4, "layer_types": [SLIDING, FULL, SLIDING, FULL], "sliding_window": 8,
            "intermediate_size": [96] * 4, "activation_sparsity_pattern": [0.95, 0.95, 0.0, 0.0],
            "num_kv_shared_layers": 2, "vocab_size_per_layer_input": VOCABULARY, "hidden_size_per_layer_input": 8,
            "laurel_rank": 8, "altup_num_inputs": 4, "final_logit_softcapping": 30.0, "tie_word_embeddings": True,
        },
    ),
    "gemma4_text": Tiny("gemma4_text", GEMMA4),
    "gemma4_text (e2b)": Tiny(
        "gemma4_text",
        {
            **GEMMA4, "num_hidden_layers": 4, "layer_types": [SLIDING, FULL, SLIDING, FULL], "num_kv_shared_layers": 2,
            "per_layer_config": {"1": {"head_dim": 32}, "3": {"head_dim": 32}}, "use_double_wide_mlp": True,
            "num_key_value_heads": 1, "final_logit_softcapping": 30.0,
        },
    ),
    "gemma4_text (26b a4b)": Tiny(
        "gemma4_text",
        {
            **GEMMA4, "enable_moe_block": True, "attention_k_eq_v": True, "num_experts": 4, "top_k_experts": 2,
            "moe_intermediate_size": 32, "hidden_size_per_layer_input": 0, "final_logit_softcapping": 30.0,
        },
    ),
    "smollm3": Tiny("smollm3", {"num_hidden_layers": 4, "no_rope_layer_interval": 4, "tie_word_embeddings": True}),
    "phi": Tiny("phi", {"num_key_value_heads": 4, **rotated(0.5)}),
    "phi3": Tiny("phi3", {"num_key_value_heads": 4, "sliding_window": 15, **rotated(1.0)}),
    "phi4-mini": Tiny("phi3", {"tie_word_embeddings": True, "sliding_window": 1024, "rope_parameters": LONGROPE}),
    "phimoe": Tiny("phimoe", {"num_local_experts": 4, "num_experts_per_tok": 2, "attention_bias": True}),
    "gpt_oss": Tiny("gpt_oss", {**MIXED, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "glm": Tiny("glm", {**rotated(0.5)}),
    "glm4": Tiny("glm4", {**rotated(0.5)}),
    "glm4_moe": Tiny("glm4_moe", {**ROUTED, **rotated(0.5), "attention_bias": True, "use_qk_norm": True}),
    "deepseek_v2": Tiny("deepseek_v2", {**ROUTED, **LATENT, "n_group": 1, "topk_group": 1}),
    "deepseek_v3": Tiny("deepseek_v3", {**ROUTED, **LATENT}),
    "olmo2": Tiny("olmo2"),
    "olmo3": Tiny(
        "olmo3",
        {**MIXED, "rope_parameters": {SLIDING: {"rope_type": "default", "rope_theta": 5e5}, FULL: OLMO_YARN}},
    ),
    "olmoe": Tiny("olmoe", {"num_experts": 8, "num_experts_per_tok": 2}),
    "granite": Tiny(
        "granite",
        {
            "embedding_multiplier": 12.0, "logits_scaling": 8.0, "residual_multiplier": 0.22,
            "attention_multiplier": 0.06,
        },
    ),
    "granitemoe": Tiny("granitemoe", {"num_local_experts": 4, "logits_scaling": 6.0, "residual_multiplier": 0.22}),
    "granitemoehybrid": Tiny(
        "granitemoehybrid",
        {
            **MAMBA, "layer_types": [LINEAR, FULL], "num_local_experts": 4, "shared_intermediate_size": 48,
            "logits_scaling": 6.0, "residual_multiplier": 0.22, "attention_multiplier": 0.06,
        },
    ),
    "lfm2": Tiny("lfm2", {"layer_types": ["conv", FULL], "full_attn_idxs": None, "block_multiple_of": 16}),
    "lfm2_moe": Tiny(
        "lfm2_moe", {**EXPERTS, "layer_types": ["conv", FULL], "num_experts": 8, "num_dense_layers": 1}
    ),
    "cohere": Tiny("cohere", {"logit_scale": 0.25}),
    "cohere2": Tiny("cohere2", {**MIXED, "logit_scale": 0.25}),
    "exaone4": Tiny("exaone4", {**MIXED, "sliding_window_pattern": "LG"}),
    "minicpm3": Tiny("minicpm3", {**LATENT, "head_dim": 8, "scale_emb": 12, "scale_depth": 1.4, "dim_model_base": 16}),
    "nemotron": Tiny("nemotron", rotated(0.5)),
    "nemotron_h": Tiny(
        "nemotron_h",
        {
            "layers_block_type": [LINEAR, "moe", FULL, "mlp"], "num_hidden_layers": 4, "mamba_num_heads": 8,
            "mamba_head_dim": 16, "ssm_state_size": 16, "n_groups": 1, "chunk_size": 8, "moe_intermediate_size": 32,
            "moe_shared_expert_intermediate_size": 32,
        },
    ),
    "falcon_h1": Tiny(
        "falcon_h1", {**MAMBA, "mamba_d_ssm": 128, "attention_out_multiplier": 0.9, "lm_head_multiplier": 0.5}
    ),
    "qwen2_moe": Tiny(
        "qwen2_moe", {**EXPERTS, "num_experts": 8, "shared_expert_intermediate_size": 64, "decoder_sparse_step": 1}
    ),
    "hunyuan_v1_moe": Tiny("hunyuan_v1_moe", {"num_experts": 4, "moe_topk": 2}),
    "ernie4_5_moe": Tiny(
        "ernie4_5_moe",
        {"moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 32, "moe_layer_start_index": 1},
    ),
    "minimax_m2": Tiny("minimax_m2", {"num_local_experts": 4, "num_experts_per_tok": 2, **rotated(0.5)}),
    "olmo": Tiny("olmo", {"clip_qkv": 1.0}),
    "seed_oss": Tiny("seed_oss", {"attention_bias": True, "attention_dropout": 0.1}),
    "ernie4_5": Tiny("ernie4_5", {"tie_word_embeddings": True}),
    "hunyuan_v1_dense": Tiny("hunyuan_v1_dense", {"tie_word_embeddings": True}),
    "apertus": Tiny("apertus", {"rope_parameters": {**LLAMA3, "rope_theta": 1.2e7}}),
    "arcee": Tiny("arcee"),
    "starcoder2": Tiny("starcoder2", {"use_bias": True}),
    "stablelm": Tiny("stablelm", rotated(0.25)),
    "gpt_neox": Tiny("gpt_neox", rotated(0.25)),
    "llama4_text": Tiny(
        "llama4_text",
        {"intermediate_size_mlp": 96, "num_local_experts": 4, "num_experts_per_tok": 1, "attention_chunk_size": 8},
    ),
    "gemma3": Tiny("gemma3", GEMMA3, VISION, "gemma3_text"),
    "gemma4": Tiny("gemma4", GEMMA4, {**VISION, "head_dim": 16, "num_key_value_heads": 2}, "gemma4_text"),
    "mistral3": Tiny("mistral3", {"sliding_window": None}, PIXTRAL, "mistral"),
    "mistral3 (ministral 3)": Tiny(
        "mistral3", {"rope_parameters": YARN}, PIXTRAL, "ministral3"
    ),
    "qwen2_5_vl": Tiny(
        "qwen2_5_vl",
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]}},
        {name: value for name, value in QWEN_VISION.items() if name != "num_position_embeddings"},
        "qwen2_5_vl_text",
    ),
    "qwen3_vl": Tiny(
        "qwen3_vl",
        {"rope_parameters": INTERLEAVED},
        {**QWEN_VISION, "deepstack_visual_indexes": [0]},
        "qwen3_vl_text",
    ),
    "qwen3_5": Tiny(
        "qwen3_5", DELTA,
        QWEN_VISION,
        "qwen3_5_text",
    ),
    "qwen3_vl_moe": Tiny(
        "qwen3_vl_moe",
        {
            **EXPERTS, "num_experts": 8,
            "rope_parameters": INTERLEAVED,
        },
        {**QWEN_VISION, "deepstack_visual_indexes": [0]},
        "qwen3_vl_moe_text",
    ),
    "qwen3_5_moe": Tiny(
        "qwen3_5_moe", {**DELTA, **EXPERTS, "num_experts": 8, "shared_expert_intermediate_size": 32},
        QWEN_VISION,
        "qwen3_5_moe_text",
    ),
    "llama4": Tiny(
        "llama4",
        {"intermediate_size_mlp": 96, "num_local_experts": 4, "num_experts_per_tok": 1, "attention_chunk_size": 8},
        {**VISION, "projector_input_dim": 32, "projector_output_dim": 32, "vision_output_dim": 32},
        "llama4_text",
    ),
}  # fmt: skip


def build(tiny: Tiny, seed: int = 0) -> PreTrainedModel:
    """A random model of the family, in float32 and eval mode."""
    torch.manual_seed(seed)
    config = tiny.config()
    auto = AutoModelForCausalLM if tiny.vision is None else AutoModelForImageTextToText
    model = cast(PreTrainedModel, auto.from_config(config, dtype=torch.float32)).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() < 2 or name.endswith(("A_log", "dt_bias")):
                parameter.add_(0.1 * noise)
            else:
                parameter.copy_(0.12 * noise)
    return model


def write(tiny: Tiny, directory: Path) -> Path:
    """The model as a Hugging Face directory without a tokenizer."""
    build(tiny).save_pretrained(directory, safe_serialization=True)
    return directory
