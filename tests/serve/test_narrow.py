import json
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from tunesmith.errors import InvalidRequest
from tunesmith.serve import loading
from tunesmith.serve.loading import load_runner
from tunesmith.serve.matrix import Matrix, fits_half, has_half, overflows_half
from tunesmith.serve.narrow import Finding, compare, known_width
from tunesmith.settings import Settings

needs_half = pytest.mark.skipif(not has_half(), reason="this processor has no product with float16 matrices")


@needs_half
@pytest.mark.parametrize("rows", [1, 3, 8, 40])
def test_a_half_matrix_multiplies_its_rounded_values_in_float32(rows: int) -> None:
    torch.manual_seed(0)
    weight, inputs = torch.randn(70, 33), torch.randn(rows, 33)
    expected = inputs.double() @ weight.half().double().t()
    torch.testing.assert_close(Matrix(weight, "float16")(inputs).double(), expected, atol=1e-5, rtol=1e-5)
    added = Matrix(weight, "float16").add(inputs, torch.ones(rows, 70))
    torch.testing.assert_close(added.double(), expected + 1, atol=1e-5, rtol=1e-5)


@needs_half
def test_rows_of_a_product_do_not_depend_on_the_rows_beside_them() -> None:
    """So that an answer does not depend on what else is in the batch."""
    torch.manual_seed(0)
    inputs = torch.randn(16, 576)
    for width in ("float32", "float16"):
        matrix = Matrix(torch.randn(960, 576), width)  # type: ignore[arg-type]
        together = matrix(inputs)
        for count in (2, 5, 8):
            torch.testing.assert_close(matrix(inputs[:count]), together[:count], atol=2e-5, rtol=1e-5)


def test_bfloat16_values_mostly_fit_half_and_others_do_not() -> None:
    assert fits_half(torch.rand(50, 50).add(0.5).bfloat16().float())
    assert not fits_half(torch.randn(50, 50))
    assert overflows_half(torch.tensor([1.0, 70000.0]))


def test_a_finding_counts_places_and_nats() -> None:
    plain = torch.tensor([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0], [0.0, 1.0]])
    same = compare(plain, plain, [0, 0, 1, 1])
    assert (same.agreement, same.surprise, same.acceptable) == (1.0, 0.0, True)
    other = compare(plain, plain.flip(0), [0, 0, 1, 1])
    assert not other.acceptable
    assert other.agreement == 0.0


@needs_half
def test_the_real_base_takes_half_the_bytes_and_the_finding_is_kept(base_dir: Path, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    assert load_runner(base_dir, settings)[1] == "float16"
    (note,) = (tmp_path / "serve").iterdir()
    found = Finding(**json.loads(note.read_text()))
    assert found.acceptable
    assert known_width(note) == "float16"
    note.write_text(json.dumps({"agreement": 0.5, "surprise": 0.0}))
    assert load_runner(base_dir, settings)[1] == "float32"


@needs_half
def test_a_base_that_bears_no_rounding_keeps_its_width(
    base_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "compare", lambda *_: Finding(0.9, 0.2))  # a base as sensitive as that is not at hand
    assert load_runner(base_dir, Settings(data_dir=tmp_path))[1] == "float32"


def test_weights_that_cannot_be_narrow_are_refused_when_asked_for(
    base_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overflowing(*_: object) -> PreTrainedModel:
        model = LlamaForCausalLM(LlamaConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2))
        model.lm_head.weight.data[0, 0] = 1e6
        return model

    monkeypatch.setattr(loading, "load_model", overflowing)
    with pytest.raises(InvalidRequest, match="serve_weights"):
        load_runner(base_dir, Settings(data_dir=tmp_path, serve_weights="float16"))
    assert load_runner(base_dir, Settings(data_dir=tmp_path))[1] == "float32"
