"""Compiled layers against the model's own, on trees: the same log-probabilities and gradients, whatever the shape."""

from dataclasses import dataclass

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tunesmith.kernels.training import step_args
from tunesmith.settings import TrainingOptions
from tunesmith.train.adapters.lora import Adapter, attach
from tunesmith.train.core.losses import supervised_loss
from tunesmith.train.core.packing import TokenRow
from tunesmith.train.paths.choose_stack import compiled_layers_gap
from tunesmith.train.paths.compiled import CompiledLayers
from tunesmith.train.paths.scoring import Scorer, TreeScorer

SHAPE = {
    "vocab_size": 61,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 2048,
    "initializer_range": 0.1,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
Changes = dict[str, object]  # of SHAPE
LONGROPE: Changes = {  # over three quarters of each head, and other angles for rows of more than 60 tokens
    "sliding_window": 4096,
    "rope_parameters": {
        "rope_type": "longrope", "rope_theta": 1e4, "partial_rotary_factor": 0.75, "short_factor": [1.0] * 6,
        "long_factor": [1.0 + 0.5 * place for place in range(6)], "original_max_position_embeddings": 60,
    },
}  # fmt: skip
MULTIPLIERS: Changes = {
    "embedding_multiplier": 12.0, "logits_scaling": 8.0, "residual_multiplier": 0.22, "attention_multiplier": 0.06,
}  # fmt: skip
HALF = {"partial_rotary_factor": 0.5}
GLM: Changes = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, **HALF}}
SLIDING, FULL = "sliding_attention", "full_attention"
MIXED: Changes = {"sliding_window": 20, "layer_types": [SLIDING, FULL, SLIDING]}
GEMMA2: Changes = {**MIXED, "query_pre_attn_scalar": 24, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0}
GEMMA3: Changes = {
    **MIXED, "query_pre_attn_scalar": 24,
    "rope_parameters": {
        FULL: {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
        SLIDING: {"rope_type": "default", "rope_theta": 1e4},
    },
}  # fmt: skip
OLMO3: Changes = {
    **MIXED,
    "rope_parameters": {
        FULL: {
            "rope_type": "yarn", "rope_theta": 5e5, "factor": 8.0, "original_max_position_embeddings": 64,
            "attention_factor": 1.2, "beta_fast": 32.0, "beta_slow": 1.0,
        },
        SLIDING: {"rope_type": "default", "rope_theta": 5e5},
    },
}  # fmt: skip
PLAIN_LORA = TrainingOptions(lora_rank=16, lora_alpha=32.0)


@dataclass(frozen=True)
class Pair:
    """The same model and adapter twice."""

    plain: TreeScorer
    plain_adapter: Adapter
    compiled: TreeScorer
    compiled_adapter: Adapter
    layers: CompiledLayers

    def compare(self, rows: list[TokenRow]) -> None:
        expected, expected_grad = scored(self.plain, self.plain_adapter, rows)
        logprobs, grad = scored(self.compiled, self.compiled_adapter, rows)
        torch.testing.assert_close(logprobs.double(), expected, rtol=1e-4, atol=1e-4)
        assert abs(float((logprobs - expected).mean())) < 1e-5
        scale = float(expected_grad.abs().max())
        torch.testing.assert_close(grad.double() / scale, expected_grad / scale, rtol=1e-3, atol=1e-5)
        assert float((grad - expected_grad).norm()) < 2e-5 * float(expected_grad.norm())


def build(name: str, spec: TrainingOptions, changes: Changes) -> tuple[transformers.PreTrainedModel, Adapter]:
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**{**SHAPE, **changes})
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:  # norms and biases, which begin as ones and zeros
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    adapter = attach(model, spec, 0, model.get_output_embeddings())
    with torch.no_grad():
        for layer in adapter.layers.values():
            layer.lora_b.normal_(std=0.1, generator=generator)
    return model, adapter


def pair(
    name: str = "Llama",
    spec: TrainingOptions = PLAIN_LORA,
    changes: Changes | None = None,
    *,
    both: bool = False,
) -> Pair:
    """The plain one in float64, but for what transformers computes in float32."""
    model, adapter = build(name, spec, changes or {})
    twin, _ = build(name, spec, changes or {})
    twin.double()
    twin_adapter = Adapter({path: twin.get_submodule(path) for path in adapter.layers})  # type: ignore[misc]
    with torch.no_grad():
        for path, layer in twin_adapter.layers.items():
            layer.lora_a.copy_(adapter.layers[path].lora_a)
            layer.lora_b.copy_(adapter.layers[path].lora_b)
    assert compiled_layers_gap(model, adapter) is None
    layers = CompiledLayers(model, adapter, both)
    return Pair(TreeScorer(twin), twin_adapter, TreeScorer(model, layers), adapter, layers)


def scored(scorer: Scorer, adapter: Adapter, rows: list[TokenRow]) -> tuple[Tensor, Tensor]:
    adapter.grad.zero_()
    scores = scorer.score(rows)
    supervised_loss(scores.logprobs, scores.weights, float(scores.weights.sum())).backward()
    return scores.logprobs.detach(), adapter.grad.clone()


def random_row(length: int, seed: int, prefix: tuple[int, ...] = ()) -> TokenRow:
    generator = torch.Generator().manual_seed(seed)
    ids = (*prefix, *torch.randint(3, 61, (length,), generator=generator).tolist())
    return TokenRow(ids, (0.0,) * (len(ids) // 2) + (1.0,) * (len(ids) - len(ids) // 2))


PROMPT = random_row(50, 99).ids
LLAMA = pair()
QWEN3 = pair("Qwen3")  # with norms of heads, which the backward pass makes again
GEMMA = pair("Gemma2", changes=GEMMA2)  # with windows, capped scores, and norms behind attention and MLP
OLMO = pair("Olmo3", changes=OLMO3)  # with norms over all heads, and none before attention and MLP
SEVERAL = pytest.mark.parametrize("both", [LLAMA, QWEN3, GEMMA, OLMO], ids=["Llama", "Qwen3", "Gemma2", "Olmo3"])


@pytest.mark.parametrize(
    ("name", "spec", "changes"),
    [
        ("Llama", PLAIN_LORA, {"num_key_value_heads": 4}),
        ("Llama", TrainingOptions(lora_rank=48, lora_alpha=16.0), {"head_dim": 32}),
        ("Llama", TrainingOptions(lora_rank=3, lora_alpha=3.0), {}),
        ("Llama", TrainingOptions(lora_rank=24, lora_alpha=8.0), {}),
        ("Llama", TrainingOptions(lora_rank=16, lora_alpha=16.0, lora_targets=["k_proj", "up_proj", "down_proj"]), {}),
        ("Llama", PLAIN_LORA, {"attention_bias": True, "mlp_bias": True}),
        ("Mistral", PLAIN_LORA, {"sliding_window": None}),
        ("Qwen2", PLAIN_LORA, {"tie_word_embeddings": True}),
        ("Qwen3", PLAIN_LORA, {"attention_bias": True}),
        ("SmolLM3", PLAIN_LORA, {"no_rope_layer_interval": 2}),
        ("Phi3", PLAIN_LORA, {"sliding_window": None}),
        ("Phi3", TrainingOptions(lora_rank=3, lora_targets=["qkv_proj", "down_proj"]), LONGROPE),
        ("Granite", PLAIN_LORA, MULTIPLIERS),
        ("Glm", PLAIN_LORA, GLM),
        ("Glm4", PLAIN_LORA, GLM),
        ("Gemma", PLAIN_LORA, {"num_key_value_heads": 1, "head_dim": 32}),
        ("Gemma2", TrainingOptions(lora_rank=3, lora_targets=["k_proj", "o_proj", "down_proj"]), GEMMA2),
        ("Gemma2", PLAIN_LORA, {"attn_logit_softcapping": None, "sliding_window": 4096}),
        ("Gemma3Text", PLAIN_LORA, GEMMA3),
        ("Olmo2", TrainingOptions(lora_rank=3, lora_targets=["q_proj", "v_proj", "up_proj"]), {}),
        ("Olmo3", PLAIN_LORA, OLMO3),
        ("Exaone4", PLAIN_LORA, {**MIXED, "sliding_window_pattern": "LGL"}),
        ("Exaone4", PLAIN_LORA, {"sliding_window": None, "layer_types": [FULL] * 3}),
        ("Mistral", PLAIN_LORA, {"sliding_window": 7}),
        ("Phi3", PLAIN_LORA, {"sliding_window": 64}),
        ("Qwen3", PLAIN_LORA, {**MIXED, "use_sliding_window": True}),
        ("Ernie4_5", PLAIN_LORA, {}),
        ("SeedOss", PLAIN_LORA, {"attention_dropout": 0.0, "attention_bias": True}),
    ],
)
def test_a_family_has_the_gradient_of_its_own_layers(name: str, spec: TrainingOptions, changes: Changes) -> None:
    both = pair(name, spec, changes)
    both.compare([random_row(n, n, PROMPT) for n in (3, 20, 41)])
    both.compare([random_row(9, 1)])


@st.composite
def token_trees(draw: st.DrawFn) -> list[TokenRow]:
    """Rows that fork off one another at random places."""
    rows: list[tuple[int, ...]] = []
    for number in range(draw(st.integers(1, 5))):
        before = draw(st.sampled_from(rows)) if rows else ()
        kept = before[: draw(st.integers(0, len(before)))]
        rows.append(random_row(draw(st.integers(2, 60)), number, kept).ids)
    return [TokenRow(ids, (0.0, *(1.0,) * (len(ids) - 1))) for ids in rows]


@settings(max_examples=25, deadline=None)
@given(token_trees())
def test_a_tree_has_the_gradient_of_the_models_own_layers(rows: list[TokenRow]) -> None:
    LLAMA.compare(rows)


@settings(max_examples=6, deadline=None)
@given(token_trees())
def test_a_tree_of_which_windows_hide_a_part_has_it_too(rows: list[TokenRow]) -> None:
    GEMMA.compare(rows)


@SEVERAL
def test_a_row_longer_than_any_block_has_it_too(both: Pair) -> None:
    both.compare([random_row(600, 5), random_row(30, 6, random_row(600, 5).ids[:300])])


@SEVERAL
def test_a_row_too_long_for_one_range_has_it_too(both: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges of one key head and 256 queries, on any number of threads; the room for them is that of one range."""
    rows = [random_row(600, 5), random_row(30, 6, random_row(600, 5).ids[:300])]
    _, whole = scored(both.compiled, both.compiled_adapter, rows)
    monkeypatch.setattr(step_args, "SCORE_GRADS", 1)
    both.compare(rows)
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(scored(both.compiled, both.compiled_adapter, rows)[1])
    torch.set_num_threads(1)
    assert torch.equal(results[1], results[0])
    assert torch.equal(results[2], results[0])
    assert float((whole - results[0]).norm()) < 1e-5 * float(whole.norm())


@pytest.mark.parametrize(
    ("panels", "heads", "kv_heads", "expected"),
    [
        (50, 9, 3, (2, 50)),  # SmolLM2, 800 tokens: two of its three key heads have 15 MB
        (25, 16, 8, (8, 25)),
        (64, 16, 8, (2, 64)),
        (36, 15, 5, (3, 36)),  # four would fit, and then one: three and two
        (512, 9, 3, (1, 16)),  # 10 panels would fit; 256 queries are the least
        (200, 4, 4, (1, 80)),
    ],
)
def test_ranges_of_attention_are_equal_and_fit_into_the_cache(
    panels: int, heads: int, kv_heads: int, expected: tuple[int, int]
) -> None:
    assert step_args.score_ranges(panels, heads, kv_heads) == expected


@SEVERAL
def test_gradients_are_the_same_to_the_bit_on_any_number_of_threads_and_after_any_step(both: Pair) -> None:
    rows = [random_row(n, n, PROMPT) for n in (7, 30)]
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(scored(both.compiled, both.compiled_adapter, rows))
        scored(both.compiled, both.compiled_adapter, [random_row(200, threads)])
    torch.set_num_threads(1)
    for logprobs, grad in results[1:]:
        assert torch.equal(grad, results[0][1])
        torch.testing.assert_close(logprobs, results[0][0], rtol=0, atol=1e-6)  # the output layer is torch's


@SEVERAL
def test_what_a_step_finds_in_its_memory_does_not_matter(both: Pair) -> None:
    rows = [random_row(n, n, PROMPT) for n in (7, 30)]
    expected, expected_grad = scored(both.compiled, both.compiled_adapter, rows)
    both.layers._buffers._memory.fill_(float("nan"))
    logprobs, grad = scored(both.compiled, both.compiled_adapter, rows)
    assert torch.equal(logprobs, expected)
    assert torch.equal(grad, expected_grad)


def test_weights_laid_out_for_both_directions_give_the_same_bits() -> None:
    rows = [random_row(n, n, PROMPT) for n in (7, 30)]
    both = pair(both=True)
    (logprobs, grad), (expected, expected_grad) = (
        scored(each.compiled, each.compiled_adapter, rows) for each in (both, LLAMA)
    )
    assert torch.equal(logprobs, expected)
    assert torch.equal(grad, expected_grad)


def test_gradients_are_added_to_those_before() -> None:
    rows = [random_row(12, 1)]
    _, once = scored(LLAMA.compiled, LLAMA.compiled_adapter, rows)
    scores = LLAMA.compiled.score(rows)
    supervised_loss(scores.logprobs, scores.weights, float(scores.weights.sum())).backward()
    torch.testing.assert_close(LLAMA.compiled_adapter.grad, 2 * once)


def test_without_the_adapter_it_is_the_base() -> None:
    rows = [random_row(12, 1)]
    with torch.no_grad(), LLAMA.plain_adapter.off(), LLAMA.compiled_adapter.off():
        expected, logprobs = LLAMA.plain.score(rows).logprobs, LLAMA.compiled.score(rows).logprobs
    torch.testing.assert_close(logprobs.double(), expected, rtol=1e-4, atol=1e-4)


def test_a_backward_pass_that_comes_too_late_is_refused() -> None:
    scores = LLAMA.compiled.score([random_row(12, 1)])
    LLAMA.compiled.score([random_row(5, 2)])
    with pytest.raises(RuntimeError, match="overwritten"):
        scores.logprobs.sum().backward()


@pytest.mark.parametrize(
    ("name", "spec", "changes"),
    [
        ("Llama", TrainingOptions(lora_dropout=0.1), {}),
        ("Llama", PLAIN_LORA, {"head_dim": 8}),
        ("Llama", PLAIN_LORA, {"hidden_act": "gelu"}),
        ("Mistral", PLAIN_LORA, {"attention_dropout": 0.1}),
        ("Olmo", PLAIN_LORA, {}),
    ],
)
def test_what_the_compiled_layers_do_not_compute_is_left_to_the_model(
    name: str, spec: TrainingOptions, changes: Changes
) -> None:
    assert compiled_layers_gap(*build(name, spec, changes))
