"""Which architectures of GGUF files are read, and how their parts are called.

The names are those of transformers. llama.cpp's files leave out what it knows of a family, such as the scale of the
queries. Source: llama.cpp's `convert_hf_to_gguf.py` and `src/models/`; the values are those of the authors' configs.

What is not covered: Mixtral (architecture llama with experts), and every architecture that is not named here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tunesmith.jsonvalue import JsonObject
from tunesmith.models.gguf.gguf_model import GgufModel
from tunesmith.models.gguf.rotation import rotation

EVERY, LOCAL_BASE = 6, 10_000.0  # Gemma 3: each sixth layer sees everything; the others rotate with this base
GEMMA_2_27B, GEMMA_3_27B = 46, 62  # layers of those whose queries are scaled otherwise

_ATTENTION = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
}
_QUERY_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
_MLP = {"ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
_DENSE = {**_ATTENTION, "ffn_norm": "post_attention_layernorm", **_MLP}
_EXPERTS = {
    **_ATTENTION,
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate_inp": "mlp.gate",
    "ffn_gate_exps": "mlp.experts.{}.gate_proj",
    "ffn_up_exps": "mlp.experts.{}.up_proj",
    "ffn_down_exps": "mlp.experts.{}.down_proj",
}
_SHARED_EXPERT = {
    "ffn_gate_inp_shexp": "mlp.shared_expert_gate",
    "ffn_gate_shexp": "mlp.shared_expert.gate_proj",
    "ffn_up_shexp": "mlp.shared_expert.up_proj",
    "ffn_down_shexp": "mlp.shared_expert.down_proj",
}
_GEMMA = {
    **_ATTENTION,
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    **_MLP,
    "post_ffw_norm": "post_feedforward_layernorm",
}
_PHI3 = {
    "attn_norm": "input_layernorm",
    "attn_qkv": "self_attn.qkv_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_up": "mlp.gate_up_proj",
    "ffn_down": "mlp.down_proj",
}
_STARCODER2 = {
    **_ATTENTION,
    "ffn_norm": "post_attention_layernorm",
    "ffn_up": "mlp.c_fc",
    "ffn_down": "mlp.c_proj",
}


@dataclass(frozen=True, slots=True)
class Architecture:
    """How transformers has the model of a GGUF architecture."""

    model_type: str
    model_class: str
    parts: Mapping[str, str]  # of a block: GGUF's name -> transformers'; {} is the number of an expert
    own: Callable[[GgufModel], JsonObject]  # what of config.json only this family has
    biased: frozenset[str] = field(default=frozenset())  # parts that have a bias as well
    interleaved: bool = False  # queries and keys have the two rotary halves of a head in turn
    adds_one: bool = False  # the norms are stored with the 1 that transformers adds when it computes


def _llama(model: GgufModel) -> JsonObject:
    biased = any(name.endswith(".bias") for name in model.names)  # some files have them in some blocks only
    return {"hidden_act": "silu", "attention_bias": biased, "mlp_bias": False}


def _qwen2(_: GgufModel) -> JsonObject:
    return {"hidden_act": "silu", "use_sliding_window": False}


def _qwen3(_: GgufModel) -> JsonObject:
    return {"hidden_act": "silu", "use_sliding_window": False, "attention_bias": False}


def _experts(model: GgufModel) -> JsonObject:
    return {
        "num_experts": model.integer("expert_count"),
        "num_experts_per_tok": model.integer("expert_used_count"),
        "moe_intermediate_size": model.integer("expert_feed_forward_length"),
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    }


def _qwen3_moe(model: GgufModel) -> JsonObject:
    return {**_qwen3(model), **_experts(model), "norm_topk_prob": True}


def _qwen2_moe(model: GgufModel) -> JsonObject:
    shared = model.integer("expert_shared_feed_forward_length")
    own = {"shared_expert_intermediate_size": shared, "norm_topk_prob": False, "qkv_bias": True}
    return {**_qwen2(model), **_experts(model), **own}


def _phi3(model: GgufModel) -> JsonObject:
    window = model.integer("attention.sliding_window", 0)
    share = model.integer("rope.dimension_count", model.head_size) / model.head_size
    return {
        "hidden_act": "silu",
        "sliding_window": window or None,
        "original_max_position_embeddings": model.original_context,
        "partial_rotary_factor": share,
    }


def _starcoder2(model: GgufModel) -> JsonObject:
    return {
        "hidden_act": "gelu_pytorch_tanh",
        "norm_epsilon": model.precise("attention.layer_norm_epsilon"),
        "use_bias": True,
        "sliding_window": None,
    }


def _gemma2(model: GgufModel) -> JsonObject:
    whole = model.hidden // model.heads if model.layers == GEMMA_2_27B else model.head_size
    kinds = ["full_attention" if index % 2 else "sliding_attention" for index in range(model.layers)]
    return {
        "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "query_pre_attn_scalar": whole,
        "sliding_window": model.integer("attention.sliding_window", 4096),
        "layer_types": list(kinds),
        "attn_logit_softcapping": model.number("attn_logit_softcapping", 50.0),
        "final_logit_softcapping": model.number("final_logit_softcapping", 30.0),
    }


def _gemma3(model: GgufModel) -> JsonObject:
    kinds = ["sliding_attention" if (index + 1) % EVERY else "full_attention" for index in range(model.layers)]
    return {
        "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "query_pre_attn_scalar": model.hidden // model.heads if model.layers == GEMMA_3_27B else model.head_size,
        "sliding_window": model.integer("attention.sliding_window"),
        "layer_types": list(kinds),
        "rope_parameters": {
            "full_attention": rotation(model),
            "sliding_attention": {"rope_type": "default", "rope_theta": LOCAL_BASE},
        },
    }


_QKV = frozenset({"attn_q", "attn_k", "attn_v"})
ARCHITECTURES = {
    "llama": Architecture("llama", "LlamaForCausalLM", _DENSE, _llama, interleaved=True),
    "qwen2": Architecture("qwen2", "Qwen2ForCausalLM", _DENSE, _qwen2, _QKV),
    "qwen2moe": Architecture("qwen2_moe", "Qwen2MoeForCausalLM", _EXPERTS | _SHARED_EXPERT, _qwen2_moe, _QKV),
    "qwen3": Architecture("qwen3", "Qwen3ForCausalLM", _DENSE | _QUERY_NORMS, _qwen3),
    "qwen3moe": Architecture("qwen3_moe", "Qwen3MoeForCausalLM", _EXPERTS | _QUERY_NORMS, _qwen3_moe),
    "phi3": Architecture("phi3", "Phi3ForCausalLM", _PHI3, _phi3),
    "starcoder2": Architecture(
        "starcoder2", "Starcoder2ForCausalLM", _STARCODER2, _starcoder2, frozenset(_STARCODER2) | {"output_norm"}
    ),
    "gemma2": Architecture("gemma2", "Gemma2ForCausalLM", _GEMMA, _gemma2, adds_one=True),
    "gemma3": Architecture("gemma3_text", "Gemma3ForCausalLM", _GEMMA | _QUERY_NORMS, _gemma3, adds_one=True),
}
