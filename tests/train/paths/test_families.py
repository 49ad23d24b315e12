"""Model families: on the token tree with the gradient of the padded path, or refused and trained padded."""

from collections.abc import Callable

import pytest
import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel

from tunesmith.settings import TrainingOptions
from tunesmith.train.adapters.lora import Adapter, attach
from tunesmith.train.core.losses import supervised_loss
from tunesmith.train.core.packing import TokenRow
from tunesmith.train.paths.accelerate import accelerate
from tunesmith.train.paths.padded import PaddedScorer
from tunesmith.train.paths.scoring import Scorer, TreeScorer
from tunesmith.train.paths.verify import Disagreement, compare, expect

SHAPE = {
    "vocab_size": 61,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "initializer_range": 0.1,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
PROMPT = tuple(range(3, 23))
ROWS = [TokenRow((*PROMPT, *range(30, 30 + n), n), (0.0,) * 22 + (1.0,) * (n - 1)) for n in (3, 7, 12)]


def build(name: str, **changes: object) -> tuple[PreTrainedModel, Adapter]:
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}{'Text' if name == 'Gemma3' else ''}Config")(**{**SHAPE, **changes})
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    adapter = attach(model, TrainingOptions(lora_rank=3), 0, model.get_output_embeddings())
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        adapter.flat.normal_(std=0.1, generator=generator)
    return model, adapter


def gradient(scorer: Scorer, adapter: Adapter) -> Tensor:
    adapter.grad.zero_()
    scores = scorer.score(ROWS)
    supervised_loss(scores.logprobs, scores.weights, float(scores.weights.sum())).backward()
    return adapter.grad.clone()


WINDOW: dict[str, object] = {"sliding_window": 10, "layer_types": ["sliding_attention", "full_attention"]}
CHANGES: dict[str, dict[str, object]] = {
    "Mistral": {"sliding_window": None},
    "Phi3": {"sliding_window": None},
    "Gemma2": {**WINDOW, "attn_logit_softcapping": 2.0, "query_pre_attn_scalar": 8},
    "Gemma3": {**WINDOW, "query_pre_attn_scalar": 8},
    "Qwen3Moe": {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "norm_topk_prob": True},
    "GptOss": {**WINDOW, "num_local_experts": 4, "num_experts_per_tok": 2},
}
FAMILIES = [
    "Llama",
    "Mistral",
    "Qwen2",
    "Qwen3",
    "Gemma",
    "Gemma2",
    "Gemma3",
    "Phi3",
    "SmolLM3",
    "Olmo2",
    "Qwen3Moe",
    "GptOss",
]


@pytest.mark.parametrize("name", FAMILIES)
def test_family_has_the_padded_gradient_on_the_tree(name: str) -> None:
    model, adapter = build(name, **CHANGES.get(name, {}))
    padded = PaddedScorer(model)
    expected, probed = gradient(padded, adapter), expect(padded, ROWS, adapter, with_gradient=True)
    accelerate(model)
    tree = TreeScorer(model)
    torch.testing.assert_close(gradient(tree, adapter), expected, rtol=1e-3, atol=1e-5)
    compare(probed, tree, adapter, torch.float32)


@pytest.mark.parametrize("window", [3, 64])
def test_a_window_on_every_layer_has_the_padded_gradient(window: int) -> None:
    model, adapter = build("Mistral", sliding_window=window)
    expected = gradient(PaddedScorer(model), adapter)
    torch.testing.assert_close(gradient(TreeScorer(model), adapter), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("name", "changes"), [("Granite", {"logits_scaling": 3.0}), ("Cohere", {"logit_scale": 0.25})])
def test_logits_are_scaled_as_the_config_says(name: str, changes: dict[str, object]) -> None:
    model, adapter = build(name, **changes)
    expected = gradient(PaddedScorer(model), adapter)
    torch.testing.assert_close(gradient(TreeScorer(model), adapter), expected, rtol=1e-3, atol=1e-5)


def test_a_model_that_scales_its_logits_in_a_way_of_its_own_is_found_out() -> None:
    model, adapter = build("Llama")
    model.get_output_embeddings().register_forward_hook(lambda _, inputs, logits: 3 * logits)
    for with_gradient in (False, True):
        expected = expect(PaddedScorer(model), ROWS, adapter, with_gradient=with_gradient)
        with pytest.raises(Disagreement, match="gradients differ by" if with_gradient else "log-probabilities differ"):
            compare(expected, TreeScorer(model), adapter, torch.float32)


@pytest.mark.parametrize("wrap", [lambda model: None, accelerate])
def test_activation_checkpointing_does_not_change_the_gradient(wrap: Callable[[PreTrainedModel], None]) -> None:
    model, adapter = build("Llama")
    wrap(model)
    expected = gradient(TreeScorer(model), adapter)
    model.activation_checkpointing_enable({"use_reentrant": False})
    model.train()
    torch.testing.assert_close(gradient(TreeScorer(model), adapter), expected, rtol=1e-6, atol=1e-8)
