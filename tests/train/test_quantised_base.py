"""A LoRA beside frozen weights in 8 and 4 bits: to the bits of a base with the numbers that they stand for."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.families.zoo import GEMMA3, Tiny, build
from tests.train.conftest import write_tiny_base
from tests.train.test_run import StopAfter, final_adapter, of_type, stopped, train
from torch import nn
from transformers import AutoConfig, LlamaForCausalLM

from tunesmith.errors import InvalidRequest
from tunesmith.families.panels import dequantised, frozen_width
from tunesmith.kernels.vectors import HAS_HALF
from tunesmith.models.weights import load_model
from tunesmith.settings import Quantization
from tunesmith.train.core.device import Device
from tunesmith.train.core.plan import LEAST_TOKENS
from tunesmith.train.loading import load_base
from tunesmith.train.paths.compiled import CompiledLayers
from tunesmith.train.paths.rounded import rounded
from tunesmith.train.protocol.spec import TrainSpec

pytestmark = pytest.mark.skipif(not HAS_HALF, reason="this processor cannot read float16 numbers, as scales are")
Make = Callable[..., TrainSpec]
KINDS: list[Quantization] = ["int8", "int4"]


@pytest.fixture(scope="session")
def base(base_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In bfloat16, with linears that 4 bits have whole blocks for, and one they do not."""
    directory = write_tiny_base(base_dir, tmp_path_factory.mktemp("wide") / "base")
    config = AutoConfig.from_pretrained(directory)
    config.hidden_size, config.intermediate_size, config.head_dim, config.tie_word_embeddings = 256, 288, 16, False
    torch.manual_seed(0)
    LlamaForCausalLM(config).bfloat16().save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def copies(base: Path, tmp_path_factory: pytest.TempPathFactory, base_dir: Path) -> dict[Quantization, Path]:
    """In float32, with the numbers that the rounded weights stand for."""
    made: dict[Quantization, Path] = {}
    for kind in KINDS:
        model = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32)
        for path, module in model.named_modules():
            if isinstance(module, nn.Linear):
                width = frozen_width(module.in_features, kind, "float32", head=path == "lm_head")
                module.weight.data = dequantised(module.weight.data, width).contiguous()
        made[kind] = write_tiny_base(base_dir, tmp_path_factory.mktemp(kind) / "base")
        model.save_pretrained(made[kind])
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_it_trains_to_the_bits_of_the_dequantised_weights(
    base: Path, copies: dict[Quantization, Path], make_spec: Make, tmp_path: Path, kind: Quantization
) -> None:
    blocks = make_spec(base_dir=base, output_dir=tmp_path / "blocks", quantization=kind)
    copy = make_spec(base_dir=copies[kind], output_dir=tmp_path / "copy", blocked_weights=True)
    plain = make_spec(base_dir=base, output_dir=tmp_path / "plain", blocked_weights=True)
    events = [train(spec) for spec in (blocks, copy, plain)]
    said = f"The base's weights are frozen in {kind}; what is trained stands beside them."
    assert [said in [log["message"] for log in of_type(one, "log")] for one in events] == [True, False, False]
    steps = [of_type(one, "step") for one in events]
    losses = [[step["train_loss"] for step in of_run] for of_run in steps]
    assert losses[0] == losses[1] != losses[2]
    assert final_adapter(blocks) == final_adapter(copy) != final_adapter(plain)


def test_a_scaled_embedding_of_16_bits_is_not_rounded(tmp_path: Path) -> None:
    """Gemma's: where the reference path rounded it, the check before the first step would refuse every such base."""
    build(Tiny("gemma3_text", {**GEMMA3, "hidden_size": 80})).bfloat16().save_pretrained(tmp_path)
    model = load_model(tmp_path, torch.bfloat16)
    embedding, ids = model.get_input_embeddings(), torch.arange(9).view(1, 9)
    exact = embedding.weight[ids].float() * embedding.embed_scale  # type: ignore[index,operator]
    with rounded(model, "int8"):
        assert torch.equal(embedding(ids), exact)


def test_a_stopped_run_resumes_to_the_same_bits(base: Path, make_spec: Make, tmp_path: Path) -> None:
    whole = make_spec(base_dir=base, output_dir=tmp_path / "whole", quantization="int4")
    train(whole)
    spec = make_spec(base_dir=base, quantization="int4")
    stopped(spec, StopAfter(5))
    assert of_type(train(spec), "started")[0]["resumed_from_step"] == 5
    assert final_adapter(spec) == final_adapter(whole)


def test_its_weights_take_the_bytes_of_their_blocks(base: Path, make_spec: Make) -> None:
    sizes = []
    for kind in ("none", *KINDS):
        loaded = load_base(
            make_spec(base_dir=base, quantization=kind, blocked_weights=True), Device("cpu", torch.float32)
        )
        layers = CompiledLayers(loaded.model, loaded.trainable, quantization=kind)  # type: ignore[arg-type]
        sizes.append(sum(tensor.nbytes for tensor in layers._weights))
    assert sizes[1] == sizes[0] * 17 // 32
    assert 0.29 < sizes[2] / sizes[0] < 0.45  # a matrix of 288 inputs and one of 64 are in 8 bits


@pytest.mark.parametrize("kind", KINDS)
def test_a_base_of_16_bits_is_read_as_it_is(base: Path, make_spec: Make, kind: Quantization) -> None:
    """A copy in float32 would take more memory than training beside the base as it is."""
    loaded = load_base(make_spec(base_dir=base, quantization=kind), Device("cpu", torch.float32))
    named = loaded.model.named_parameters()
    matrices = [weight for name, weight in named if weight.ndim == 2 and "lora_" not in name]
    assert {weight.dtype for weight in matrices} == {torch.bfloat16}


def test_little_memory_does_not_refuse_blocks(
    base: Path, make_spec: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has little is who needs them: other paths recompute activations then, beside wider weights."""
    monkeypatch.setattr(Device, "free_memory", lambda device: 10_000)
    events = train(make_spec(base_dir=base, output_dir=tmp_path / "out", quantization="int4"))
    said = [str(event["message"]) for event in of_type(events, "log")]
    assert f"at most {LEAST_TOKENS} tokens at once." in "".join(said)
    assert "The layers run as compiled code." in said


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"packing": False}, "packing is off"), ({"lora_dropout": 0.1}, "the adapter has dropout")],
    ids=["padded", "dropout"],
)
def test_layers_that_are_not_compiled_do_not_read_blocks(
    base: Path, make_spec: Make, changes: dict[str, object], reason: str
) -> None:
    with pytest.raises(InvalidRequest, match=rf"quantization is 'int8', which compiled layers .*{reason}.* Leave"):
        train(make_spec(base_dir=base, quantization="int8", **changes))
