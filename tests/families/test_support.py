"""Which bases are refused by their config, with the configs that transformers itself writes."""

import pytest
from transformers import AutoConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from tunesmith.families.support import causal_types, unsupported
from tunesmith.families.table import FAMILIES
from tunesmith.jsonvalue import JsonObject

SIZES: JsonObject = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
}


def config_of(family: str, architecture: str = "", **changes: object) -> JsonObject:
    """What a model of this family has in its config.json."""
    config: JsonObject = AutoConfig.for_model(family).to_dict()
    return {**config, "architectures": [architecture or "SomeForCausalLM"], **changes}  # type: ignore[dict-item]


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_family_of_the_table_is_accepted(family: str) -> None:
    assert unsupported(config_of(family)) is None


@pytest.mark.parametrize(
    "family", ["gpt_neox", "mixtral", "qwen3_moe", "starcoder2", "granite", "phi", "glm4", "olmo3"]
)
def test_a_family_without_compiled_code_is_accepted(family: str) -> None:
    assert unsupported({**config_of(family), **SIZES}) is None


@pytest.mark.parametrize(
    ("family", "architecture", "said"),
    [
        ("t5", "T5ForConditionalGeneration", "it is an encoder-decoder (T5ForConditionalGeneration)"),
        ("bart", "BartForConditionalGeneration", "it is an encoder-decoder"),
        ("bert", "BertForMaskedLM", "it does not generate text: its config.json says BertForMaskedLM"),
        ("llama", "LlamaForSequenceClassification", "it does not generate text"),
        ("roberta", "RobertaForCausalLM", "the family roberta is not supported: it is an encoder, whose tokens see"),
        ("cpmant", "CpmAntForCausalLM", "it prepends tokens of its own"),
        ("qwen3", "Qwen3Model", "it does not generate text: its config.json says Qwen3Model"),
        ("vit", "ViTForImageClassification", "it does not generate text"),
        ("llava", "LlavaForConditionalGeneration", "it also takes images or sound (LlavaFor"),
        ("paligemma", "PaliGemmaForConditionalGeneration", "it also takes images or sound"),
        (
            "gemma3n",
            "Gemma3nForConditionalGeneration",
            "the family gemma3n is not supported: transformers loads",
        ),
        ("gpt2", "GPT2LMHeadModel", "the family gpt2 is not supported: it keeps the weights of its layers in Conv1D"),
        ("gptj", "GPTJForCausalLM", "(it has n_positions, n_embd, n_inner, n_layer, n_head, as other families"),
        ("gpt_bigcode", "GPTBigCodeForCausalLM", "its config.json has no max_position_embeddings, hidden_size,"),
        ("bloom", "BloomForCausalLM", "the family bloom is not supported: its config.json has no max_position"),
        ("mpt", "MptForCausalLM", "(it has max_seq_len, d_model, n_layers, n_heads, as other families call them)"),
        ("opt", "OPTForCausalLM", "its config.json has no intermediate_size (it has ffn_dim, as other"),
        ("mamba", "MambaForCausalLM", "the family mamba has recurrent or convolutional layers"),
        ("mamba2", "Mamba2ForCausalLM", "recurrent or convolutional layers"),
        ("jamba", "JambaForCausalLM", "recurrent or convolutional layers"),
        ("recurrent_gemma", "RecurrentGemmaForCausalLM", "recurrent or convolutional layers"),
        ("rwkv", "RwkvForCausalLM", "recurrent or convolutional layers"),
        ("bamba", "BambaForCausalLM", "recurrent or convolutional layers"),
        ("kimi_linear", "KimiLinearForCausalLM", "recurrent or convolutional layers (linear_attention)"),
    ],
)
def test_what_cannot_be_tuned_is_named(family: str, architecture: str, said: str) -> None:
    reason = unsupported(config_of(family, architecture))
    assert reason is not None
    assert said in reason


@pytest.mark.parametrize("method", ["gptq", "awq", "bitsandbytes", "fp8", "compressed-tensors"])
def test_a_quantized_checkpoint_is_refused_by_its_format(method: str) -> None:
    reason = unsupported(config_of("llama", quantization_config={"quant_method": method, "bits": 4}))
    assert reason == (
        f"its weights are quantized ({method} format). Take the repository with the weights in 16 or 32 bits"
    )


def test_mlx_weights_are_refused_and_gpt_oss_own_format_is_not() -> None:
    assert "MLX's format" in str(unsupported(config_of("llama", quantization={"group_size": 64, "bits": 4})))
    assert unsupported(config_of("gpt_oss", quantization_config={"quant_method": "mxfp4"})) is None


def test_an_unknown_family_is_told_by_whether_it_brings_code() -> None:
    unknown: JsonObject = {"model_type": "nova9", "architectures": ["NovaForCausalLM"], **SIZES}
    assert unsupported(unknown) == "the installed transformers has no text generation for the family nova9"
    code: JsonObject = {"AutoModelForCausalLM": "modeling_nova.Nova"}
    assert "needs code from its repository" in str(unsupported({**unknown, "auto_map": code}))
    assert unsupported({**SIZES, "architectures": ["X"]}) is not None
    assert unsupported(dict(SIZES)) == "its config.json has no model_type"


def test_the_table_read_as_text_is_that_of_transformers() -> None:
    assert causal_types() == set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
