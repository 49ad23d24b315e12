"""A base stored in 16 bits stays so in memory, and trains to the bits of its float32 copy."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.families.trial import train as train_tiny
from tests.families.zoo import GEMMA3, Tiny, build
from tests.train.conftest import write_tiny_base
from tests.train.test_run import final_adapter, train
from transformers import AutoModelForCausalLM

from tunesmith.train.core.device import Device
from tunesmith.train.loading import load_base
from tunesmith.train.paths.compiled import CompiledLayers
from tunesmith.train.protocol.spec import TrainSpec

Make = Callable[..., TrainSpec]
CPU = Device("cpu", torch.float32)


@pytest.fixture(scope="session", params=["bfloat16", "float16"])
def bases(
    request: pytest.FixtureRequest, base_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """One base in 16 bits, and the same weights in a float32 file."""
    made = []
    for dtype in (request.param, "float32"):
        directory = write_tiny_base(base_dir, tmp_path_factory.mktemp(dtype) / "base")
        model = AutoModelForCausalLM.from_pretrained(directory, dtype=getattr(torch, request.param))
        model.to(getattr(torch, dtype)).save_pretrained(directory)
        made.append(directory)
    return made[0], made[1]


@pytest.mark.parametrize("batch", [1, 4], ids=["both directions", "one direction"])
def test_it_trains_to_the_bits_of_its_float32_copy(
    bases: tuple[Path, Path], make_spec: Make, tmp_path: Path, batch: int
) -> None:
    specs = [
        make_spec(base_dir=base, output_dir=tmp_path / str(place), batch_size=batch, blocked_weights=True)
        for place, base in enumerate(bases)
    ]
    for spec in specs:
        events = train(spec)
        assert any("compiled code" in str(event.get("message")) for event in events)
    assert final_adapter(specs[0]) == final_adapter(specs[1])


def test_its_panels_have_the_width_of_its_file(bases: tuple[Path, Path], make_spec: Make) -> None:
    sizes = []
    for base in bases:
        for weights in ("auto", "float32"):
            loaded = load_base(make_spec(base_dir=base, weights=weights), CPU)
            layers = CompiledLayers(loaded.model, loaded.trainable)  # type: ignore[arg-type]
            sizes.append(sum(tensor.nbytes for tensor in layers._weights))
    assert sizes == [sizes[1] // 2, sizes[1], sizes[1], sizes[1]]


@pytest.mark.parametrize("changes", [{"packing": False}, {"blocked_weights": False}], ids=["padded", "tree"])
def test_layers_that_are_not_compiled_compute_in_float32(
    bases: tuple[Path, Path], make_spec: Make, tmp_path: Path, changes: dict[str, bool]
) -> None:
    specs = [make_spec(base_dir=base, output_dir=tmp_path / base.parent.name, **changes) for base in bases]
    for spec in specs:
        assert not any("compiled code" in str(event.get("message")) for event in train(spec))
    assert final_adapter(specs[0]) == final_adapter(specs[1])


@pytest.mark.parametrize(("inner", "path"), [(96, "compiled"), (90, "tree")])
def test_a_scaled_embedding_is_not_rounded(inner: int, path: str, tmp_path: Path) -> None:
    """Gemma multiplies by the square root of the hidden size; the reference path has to agree, or all is padded."""
    tiny = Tiny("gemma3_text", {**GEMMA3, "hidden_size": 80, "intermediate_size": inner})
    found = []
    for dtype in (torch.bfloat16, torch.float32):
        folder = tmp_path / str(dtype)
        build(tiny).bfloat16().to(dtype).save_pretrained(folder / "base")
        kind, trained = train_tiny(folder / "base", folder)
        assert kind == path
        found.append(trained)
    assert torch.equal(found[0].gradient, found[1].gradient)
    assert found[0].loss == found[1].loss
