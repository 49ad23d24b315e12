"""A LoRA beside a bfloat16 base with products of rounded activations: nearly the exact run, checked before it begins.

As on a processor with AVX512-BF16: without it the same sums take two instructions instead of one.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.train.conftest import write_tiny_base
from tests.train.test_run import StopAfter, final_adapter, of_type, stopped, train
from transformers import AutoConfig, LlamaForCausalLM

from tunesmith.jsonvalue import JsonObject
from tunesmith.kernels.dots.unit import DotUnit
from tunesmith.train.paths import rounded_products
from tunesmith.train.protocol.spec import SpecError, TrainSpec

Make = Callable[..., TrainSpec]


@pytest.fixture(scope="session")
def base(base_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = write_tiny_base(base_dir, tmp_path_factory.mktemp("rounded") / "base")
    config = AutoConfig.from_pretrained(directory)
    config.hidden_size, config.intermediate_size, config.head_dim = 64, 96, 16
    torch.manual_seed(0)
    LlamaForCausalLM(config).bfloat16().save_pretrained(directory)
    return directory


@pytest.fixture
def unit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounded_products, "dot_unit", lambda: DotUnit.VECTOR)


def losses(events: list[JsonObject]) -> list[object]:
    return [step["train_loss"] for step in of_type(events, "step")]


def said(events: list[JsonObject]) -> str:
    return "\n".join(str(event["message"]) for event in of_type(events, "log"))


@pytest.mark.parametrize("micro_batch_tokens", [0, 40], ids=["one layout", "small steps"])
def test_it_trains_nearly_as_exact_products_do(
    base: Path, make_spec: Make, tmp_path: Path, unit: None, micro_batch_tokens: int
) -> None:
    shared = {"base_dir": base, "blocked_weights": True, "micro_batch_tokens": micro_batch_tokens}
    exact, rounded = (
        make_spec(output_dir=tmp_path / one, matmul_precision=one, **shared) for one in ("float32", "bfloat16")
    )
    events = [train(exact), train(rounded)]
    assert "made in bfloat16 (AVX512-BF16): log-probabilities of a few rows are" in said(events[1])
    assert "AVX512" not in said(events[0])
    assert losses(events[1]) == pytest.approx(losses(events[0]), rel=0.01)
    assert losses(events[1]) != losses(events[0])
    assert final_adapter(exact) != final_adapter(rounded)


def test_a_stopped_run_resumes_to_the_same_bits(base: Path, make_spec: Make, tmp_path: Path, unit: None) -> None:
    whole = make_spec(base_dir=base, output_dir=tmp_path / "whole", matmul_precision="bfloat16")
    train(whole)
    spec = make_spec(base_dir=base, matmul_precision="bfloat16")
    stopped(spec, StopAfter(5))
    assert of_type(train(spec), "started")[0]["resumed_from_step"] == 5
    assert final_adapter(spec) == final_adapter(whole)


def test_a_unit_that_errs_is_not_used(
    base: Path, make_spec: Make, tmp_path: Path, unit: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one would whose products differ by more than rounding, here by more than nothing."""
    monkeypatch.setattr(rounded_products, "MOST_OF_GRADIENT", 0.0)
    exact = make_spec(base_dir=base, output_dir=tmp_path / "exact", blocked_weights=True)
    rounded = make_spec(
        base_dir=base, output_dir=tmp_path / "rounded", matmul_precision="bfloat16", blocked_weights=True
    )
    assert "Products stay exact. In bfloat16 (AVX512-BF16) more than rounding differs" in said(train(rounded))
    train(exact)
    assert final_adapter(exact) == final_adapter(rounded)


def test_a_run_on_a_processor_without_a_unit_is_exact(
    base: Path, make_spec: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a node of a cluster lacks it, or a job is resumed elsewhere: it is not lost over its speed."""
    monkeypatch.setattr(rounded_products, "dot_unit", lambda: DotUnit.NONE)
    exact = make_spec(base_dir=base, output_dir=tmp_path / "exact")
    rounded = make_spec(base_dir=base, output_dir=tmp_path / "rounded", matmul_precision="bfloat16")
    assert "products stay exact: this processor has neither AVX512-BF16 nor AMX." in said(train(rounded))
    train(exact)
    assert final_adapter(exact) == final_adapter(rounded)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"packing": False}, "the layers do not run as compiled code"),
        ({"lora_dropout": 0.1}, "the layers do not run as compiled code"),
        ({"weights": "float32", "blocked_weights": True}, "the weights of the layers are not kept in bfloat16"),
    ],
    ids=["padded", "dropout", "float32"],
)
def test_other_paths_do_not_round(
    base: Path, make_spec: Make, unit: None, changes: dict[str, object], reason: str
) -> None:
    events = train(make_spec(base_dir=base, matmul_precision="bfloat16", **changes))
    assert f"products stay exact: {reason}" in said(events)


def test_all_weights_are_trained_with_exact_products(make_spec: Make) -> None:
    with pytest.raises(SpecError, match="matmul_precision is 'bfloat16'; it has to be 'float32' where all weights"):
        make_spec(matmul_precision="bfloat16", adapter="none")
