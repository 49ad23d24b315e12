"""What a step needs, counted by hand for a small model, and what the machine does."""

import torch
from tests.train.conftest import VOCABULARY, tiny_llama

from tunesmith.settings import TrainingOptions
from tunesmith.train.adapters.lora import attach
from tunesmith.train.core.device import Device
from tunesmith.train.core.packing import TokenRow
from tunesmith.train.paths.flops import Work, matmul_peak
from tunesmith.train.paths.padded import PaddedScorer
from tunesmith.train.paths.scoring import Computed, TreeScorer

ROWS = [TokenRow((1, 2, 3, 4, 5, 6, 7, 8, 9, 10, n), (0.0,) * 10 + (1.0,)) for n in (11, 12)]


def test_the_work_of_a_token_is_counted_from_the_layers() -> None:
    model = tiny_llama()
    adapter = attach(model, TrainingOptions(lora_rank=3), 0, model.get_output_embeddings())
    frozen = 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 96)
    work = Work.of(model, adapter)
    assert work.per_token == 4 * frozen + 6 * adapter.parameter_count
    assert work.per_learned == 4 * 64 * VOCABULARY
    assert work.per_visible == 12 * 2 * 64
    assert work.flops(Computed(2, 1, 3)) == 2 * work.per_token + work.per_learned + 3 * work.per_visible


def test_a_shared_prefix_is_counted_once_and_padding_by_padded_rows() -> None:
    model = tiny_llama()
    adapter = attach(model, TrainingOptions(lora_rank=3), 0, model.get_output_embeddings())
    assert adapter.parameter_count
    with torch.no_grad():
        assert PaddedScorer(model).score(ROWS).computed == Computed(22, 2, 2 * 66)
        assert TreeScorer(model).score(ROWS).computed == Computed(12, 2, 66 + 11)


def test_the_machine_does_some_operations() -> None:
    assert 1e8 < matmul_peak(Device("cpu", torch.float32)) < 1e16
