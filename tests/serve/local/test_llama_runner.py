"""The compiled forward pass against transformers, on small random models of every family it takes."""

import copy
import gc
import json
import threading
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
import torch
from numpy import float32
from numpy.typing import NDArray
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    MixtralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    SmolLM3Config,
    SmolLM3ForCausalLM,
)

from tunesmith.errors import ServerFault
from tunesmith.families.array_panels import Width
from tunesmith.kernels.vectors import HAS_HALF
from tunesmith.models.adapters import AdapterManifest, load_tensors, write_adapter
from tunesmith.serve.engine.model import SequenceChunk
from tunesmith.serve.local.llama_runner import CompiledRunner
from tunesmith.serve.local.runner import AnyAdapter, Runner
from tunesmith.serve.local.torch_weights import supports, weights_of
from tunesmith.serve.local.transformers_runner import TransformersRunner

SIZES = {
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 2048,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0, "original_max_position_embeddings": 128}
MODELS: dict[str, tuple[type[PreTrainedModel], PreTrainedConfig]] = {
    "llama": (LlamaForCausalLM, LlamaConfig(**SIZES, tie_word_embeddings=True)),
    "llama with biases": (LlamaForCausalLM, LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True)),
    "llama with yarn": (LlamaForCausalLM, LlamaConfig(**SIZES, rope_parameters=YARN)),
    "mistral": (MistralForCausalLM, MistralConfig(**SIZES, sliding_window=None)),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config(**{**SIZES, "use_sliding_window": False})),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config(**SIZES)),
    "smollm3": (SmolLM3ForCausalLM, SmolLM3Config(**SIZES, no_rope_layers=[1, 1, 0], pad_token_id=0)),
}
WIDTHS: list[Width] = ["float32", "bfloat16", *(["float16"] if HAS_HALF else [])]  # type: ignore[list-item]
TARGETS = ("self_attn.q_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj")


def compiled(model: PreTrainedModel) -> Runner:
    return CompiledRunner(weights_of(model))


RUNNERS = [compiled, TransformersRunner]


def make(name: str) -> PreTrainedModel:
    torch.manual_seed(0)
    kind, config = MODELS[name]
    model = kind(copy.deepcopy(config)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def write_sparse_adapter(model: PreTrainedModel, directory: Path, rank: int = 4) -> Path:
    """Some of the linears only, so that parts of a fused matrix have none."""
    tensors = {}
    for path, module in model.named_modules():
        if path.endswith(TARGETS):
            tensors[f"base_model.model.{path}.lora_A.weight"] = torch.randn(rank, module.in_features) * 0.2
            tensors[f"base_model.model.{path}.lora_B.weight"] = torch.randn(module.out_features, rank) * 0.2
    write_adapter(directory, tensors, AdapterManifest("tiny", "x", "y", rank, 8.0, ("q_proj",), step=1))
    return directory


def logits(runner: Runner, adapter_dir: Path | None) -> list[NDArray[float32]]:
    """A prompt in two pieces, a copy of it, both in one batch with drafts, one going back, one far beyond its room."""
    adapter = runner.read_adapter(adapter_dir) if adapter_dir else None
    ids = torch.randint(0, 97, (200,), generator=torch.Generator().manual_seed(1)).tolist() * 6

    def chunk(slot: int, start: int, stop: int, logits: int = 1) -> SequenceChunk[AnyAdapter]:
        return SequenceChunk(slot, start, tuple(ids[start:stop]), adapter, logits)

    steps = [runner.forward([chunk(0, 0, 23, 0)]), runner.forward([chunk(0, 23, 40)])]
    runner.copy(0, 5, 35)
    steps.append(runner.forward([chunk(0, 40, 44, 4), chunk(2, 0, 30), chunk(5, 35, 36)]))
    steps.append(runner.forward([chunk(0, 41, 42), chunk(1, 0, 1), chunk(2, 30, 31), chunk(5, 36, 37)]))
    runner.clear(2)
    steps.append(runner.forward([chunk(0, 42, 1100), chunk(2, 0, 3)]))
    steps += [runner.forward([chunk(0, place, place + 1), chunk(1, 0, 1)]) for place in (1100, 1101)]
    return steps


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("tuned", [False, True])
def test_logits_equal_transformers(name: str, tuned: bool, tmp_path: Path) -> None:
    model = make(name)
    adapter = write_sparse_adapter(model, tmp_path) if tuned else None
    expected = logits(TransformersRunner(copy.deepcopy(model)), adapter)
    assert supports(model)
    ours = logits(CompiledRunner(weights_of(model)), adapter)
    for mine, theirs in zip(ours, expected, strict=True):
        numpy.testing.assert_allclose(mine, theirs, atol=2e-4, rtol=2e-4)


def test_an_adapter_changes_the_logits(tmp_path: Path) -> None:
    model = make("llama")
    adapter, runner = write_sparse_adapter(model, tmp_path), CompiledRunner(weights_of(model))
    assert not numpy.allclose(logits(runner, adapter)[1], logits(runner, None)[1], atol=0.1)


@pytest.mark.parametrize("width", WIDTHS)
def test_logits_are_the_same_to_the_bit_in_any_company(width: Width, tmp_path: Path) -> None:
    """Adapters of different rank, some tokens without one, a longer piece, another number of threads."""
    model = make("llama")
    runner = CompiledRunner(weights_of(model), width)
    folders = [write_sparse_adapter(make("llama"), tmp_path / str(place), rank=2 + 5 * place) for place in range(5)]
    adapters = [None, *[runner.read_adapter(folder) for folder in folders]]
    adapters += [adapters[1]]  # not side by side
    ids = torch.randint(0, 97, (60,), generator=torch.Generator().manual_seed(2)).tolist()
    chunks: list[SequenceChunk[AnyAdapter]] = [
        SequenceChunk(place, 0, tuple(ids[place : place + (30 if place == 1 else 2 + place)]), adapter, 2)
        for place, adapter in enumerate(adapters)
    ]
    alone = numpy.concatenate([runner.forward([chunk]) for chunk in chunks])
    for threads in (1, 2, 5):
        assert numpy.array_equal(runner.forward(chunks, threads), alone)


@pytest.mark.parametrize("pieces", [[60], [1] * 60, [7, 30, 1, 22], [25, 35]], ids=str)
def test_logits_are_the_same_to_the_bit_in_any_pieces(pieces: list[int], tmp_path: Path) -> None:
    """A prompt read at once, token by token, with drafts, or copied from another sequence half-way."""
    model = make("qwen3")
    folder = write_sparse_adapter(model, tmp_path)
    runner = CompiledRunner(weights_of(model))
    adapter = runner.read_adapter(folder)
    ids = torch.randint(0, 97, (60,), generator=torch.Generator().manual_seed(3)).tolist()
    expected = runner.forward([SequenceChunk(0, 0, tuple(ids), adapter, 60)])
    found, start = [], 0
    for size in pieces:
        found.append(runner.forward([SequenceChunk(1, start, tuple(ids[start : start + size]), adapter, size)]))
        start += size
    assert numpy.array_equal(numpy.concatenate(found), expected)
    runner.copy(1, 2, 37)
    assert numpy.array_equal(runner.forward([SequenceChunk(2, 37, tuple(ids[37:]), adapter, 3)]), expected[-3:])


def test_nan_in_the_weights_is_nan_in_the_logits() -> None:
    """Or a broken model would answer as if it were none."""
    model = make("llama")
    model.get_parameter("model.layers.1.mlp.up_proj.weight").data[3, 5] = float("nan")
    assert numpy.isnan(CompiledRunner(weights_of(model)).forward([SequenceChunk(0, 0, (1, 2), None, 1)])).any()


def test_the_threads_end_with_the_runner() -> None:
    runner = CompiledRunner(weights_of(make("llama")))
    before = {thread for thread in threading.enumerate() if thread.name.startswith("tunesmith-kernel")}
    runner.forward([SequenceChunk(0, 0, (1, 2), None, 1)], threads=3)
    helpers = {thread for thread in threading.enumerate() if thread.name.startswith("tunesmith-kernel")} - before
    assert len(helpers) == 2
    del runner
    gc.collect()
    assert not any(thread.is_alive() for thread in helpers)


def test_a_family_with_other_formulas_is_left_to_transformers() -> None:
    dynamic = LlamaConfig(**SIZES, rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4})
    for config in (CohereConfig(**SIZES), MixtralConfig(**SIZES, num_local_experts=2), dynamic):
        assert not supports(AutoModelForCausalLM.from_config(config))


@pytest.mark.parametrize("runner", RUNNERS)
def test_an_adapter_of_another_size_is_refused(runner: Callable[[PreTrainedModel], Runner], tmp_path: Path) -> None:
    small = LlamaForCausalLM(LlamaConfig(**{**SIZES, "hidden_size": 24}))
    adapter = write_sparse_adapter(small, tmp_path)
    with pytest.raises(Exception, match="does not fit its base"):
        runner(make("llama")).read_adapter(adapter)


@pytest.mark.parametrize("runner", RUNNERS)
def test_an_adapter_whose_halves_differ_in_rank_is_refused(
    runner: Callable[[PreTrainedModel], Runner], tmp_path: Path
) -> None:
    """Compiled code would read beyond the end of the smaller one."""
    model = make("llama")
    adapter = write_sparse_adapter(model, tmp_path)
    tensors = load_tensors(adapter)
    name = next(name for name in tensors if name.endswith("v_proj.lora_B.weight"))
    write_adapter(
        adapter,
        tensors | {name: tensors[name][:, :2].contiguous()},
        AdapterManifest("tiny", "x", "y", 4, 8.0, ("q_proj",), step=1),
    )
    with pytest.raises(ServerFault, match="does not fit its base"):
        runner(model).read_adapter(adapter)


@pytest.mark.parametrize("runner", RUNNERS)
def test_an_adapter_that_lacks_a_layer_is_refused_and_never_answered_by_the_base(
    runner: Callable[[PreTrainedModel], Runner], tmp_path: Path
) -> None:
    model = make("llama")
    adapter = write_sparse_adapter(model, tmp_path)
    tensors = {name: tensor for name, tensor in load_tensors(adapter).items() if ".1.self_attn.q_proj" not in name}
    write_adapter(adapter, tensors, AdapterManifest("tiny", "x", "y", 4, 8.0, ("q_proj",), step=1))
    with pytest.raises(ServerFault, match=r"lacks its tensors of model\.layers\.1\.self_attn\.q_proj"):
        runner(model).read_adapter(adapter)


@pytest.mark.parametrize(
    ("field", "value"),
    [("use_dora", True), ("modules_to_save", ["lm_head"]), ("bias", "all"), ("rank_pattern", {"q": 2})],
)
def test_an_adapter_that_is_more_than_a_lora_is_refused_by_name(field: str, value: object, tmp_path: Path) -> None:
    model = make("llama")
    adapter = write_sparse_adapter(model, tmp_path)
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, field: value}))
    with pytest.raises(Exception, match=field):
        CompiledRunner(weights_of(model)).read_adapter(adapter)
