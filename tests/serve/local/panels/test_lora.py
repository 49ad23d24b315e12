"""Adapters in panels: as much memory as they need, and the same logits as transformers for any rank."""

import ctypes
from pathlib import Path

import numpy
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tunesmith.kernels.serving.step_args import LORA_PARTS, PART_B, PART_FIRST, PART_LAST
from tunesmith.models.adapters import AdapterManifest, write_adapter
from tunesmith.serve.engine.model import SequenceChunk
from tunesmith.serve.local.adapters import LowRank
from tunesmith.serve.local.llama_runner import CompiledRunner
from tunesmith.serve.local.panels.lora import Part, pack_adapter
from tunesmith.serve.local.torch_weights import weights_of
from tunesmith.serve.local.transformers_runner import TransformersRunner
from tunesmith.system.pages import SpareSlab

SIZES = {
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
}


def low_rank(rank: int, inputs: int = 32, outputs: int = 48) -> LowRank:
    return LowRank(numpy.ones((rank, inputs), numpy.float32), numpy.ones((outputs, rank), numpy.float32), 2.0)


def parts(*outputs: int) -> list[Part]:
    return [Part("", (count,)) for count in outputs]


def make_model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SIZES)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def test_an_adapter_of_no_layer_takes_no_memory() -> None:
    packed = pack_adapter([[None, None], [None]], [parts(48, 16), parts(32)], SpareSlab())
    assert (packed.nbytes, packed.lora_panels) == (0, 0)
    assert not packed.table.any()


@pytest.mark.parametrize(
    ("ranks", "panels"), [((1,), 1), ((16,), 1), ((17,), 2), ((4, 4), 2), ((33, 1), 4), ((None, 20), 2)], ids=str
)
def test_each_part_has_panels_of_its_own_that_zeros_fill_up(ranks: tuple[int | None, ...], panels: int) -> None:
    lows = [None if rank is None else low_rank(rank) for rank in ranks]
    packed = pack_adapter([lows], [parts(*[48] * len(lows))], SpareSlab())
    assert packed.lora_panels == panels
    a_bytes = panels * 16 * 32 * 4
    b_bytes = sum(3 * 16 * rank * 4 for rank in ranks if rank is not None)  # 48 outputs are three panels
    assert packed.nbytes == a_bytes + b_bytes


def test_the_widest_line_decides_about_the_panels_of_a_step() -> None:
    packed = pack_adapter([[low_rank(4)], [low_rank(40)], [None]], [parts(48)] * 3, SpareSlab())
    assert packed.lora_panels == 3


def test_the_adapter_it_was_packed_from_is_not_changed() -> None:
    low = low_rank(4)
    pack_adapter([[low]], [parts(48)], SpareSlab())
    assert (low.b == 1).all()  # the scale goes into the packed copy


def test_the_pieces_of_one_linear_begin_a_panel_each_and_share_its_a() -> None:
    fused = Part("qkv_proj", (20, 8, 8))
    b = numpy.repeat(numpy.arange(36, dtype=numpy.float32)[:, None], 4, axis=1)
    low = LowRank(numpy.ones((4, 32), numpy.float32), b, 1.0)
    packed = pack_adapter([[low]], [[fused]], SpareSlab())
    assert packed.lora_panels == 1
    assert packed.table[0, LORA_PARTS + PART_FIRST] == 0
    assert packed.table[0, LORA_PARTS + PART_LAST] == 4  # 2 + 1 + 1 panels
    place = int(packed.table[0, LORA_PARTS + PART_B])
    made = numpy.ctypeslib.as_array((ctypes.c_float * (4 * 4 * 16)).from_address(place))
    assert made.reshape(4, 4, 16)[:, 0, 0].tolist() == [0, 16, 20, 28]


@pytest.mark.parametrize("rank", [1, 15, 16, 17, 33])
def test_any_rank_gives_the_logits_of_transformers(rank: int, tmp_path: Path) -> None:
    model = make_model()
    generator = torch.Generator().manual_seed(rank)
    tensors: dict[str, torch.Tensor] = {}
    for path, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and path.endswith(("q_proj", "v_proj", "down_proj")):
            a = torch.randn(rank, module.in_features, generator=generator) * 0.1
            b = torch.randn(module.out_features, rank, generator=generator) * 0.1
            tensors |= {f"base_model.model.{path}.lora_A.weight": a, f"base_model.model.{path}.lora_B.weight": b}
    targets = ("q_proj", "v_proj", "down_proj")
    write_adapter(tmp_path, tensors, AdapterManifest("tiny", "x", "y", rank, 8.0, targets, step=1))
    ids = tuple(torch.randint(0, 97, (20,), generator=generator).tolist())
    reference = TransformersRunner(model)
    expected = reference.forward([SequenceChunk(0, 0, ids, reference.read_adapter(tmp_path), 20)])
    plain = reference.forward([SequenceChunk(1, 0, ids, None, 20)])
    runner = CompiledRunner(weights_of(model))
    found = runner.forward([SequenceChunk(0, 0, ids, runner.read_adapter(tmp_path), 20)])
    assert abs(expected - plain).max() > 0.02
    numpy.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
