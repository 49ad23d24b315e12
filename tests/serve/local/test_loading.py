"""Which runner and which number format a base gets, and that a finding is kept; on small bases made here."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
import torch
from tests.families.zoo import ZOO, write
from tests.render.bases import VOCABULARY, make_base
from transformers import CohereConfig, CohereForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from tunesmith import __version__
from tunesmith.errors import InvalidRequest
from tunesmith.kernels.vectors import HAS_HALF
from tunesmith.models.directory import fingerprint
from tunesmith.serve.engine.model import SequenceChunk
from tunesmith.serve.local import loading
from tunesmith.serve.local.fp16_check import LARGEST, Finding, read_width, write_finding
from tunesmith.serve.local.llama_runner import CompiledRunner
from tunesmith.serve.local.loading import load_runner
from tunesmith.serve.local.runner import AnyAdapter
from tunesmith.serve.local.transformers_runner import TransformersRunner
from tunesmith.settings import Settings

SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 512,
}
Save = Callable[[PreTrainedModel], Path]

needs_half = pytest.mark.skipif(not HAS_HALF, reason="this processor cannot read float16 numbers")


@pytest.fixture
def save(base_dir: Path, tmp_path: Path) -> Save:
    """Writes a model with a tokenizer beside it."""

    def save(model: PreTrainedModel) -> Path:
        directory = make_base(base_dir, tmp_path / "base", None)
        model.save_pretrained(directory)
        return directory

    return save


def llama(*, halved: bool = False) -> LlamaForCausalLM:
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SIZES))
    return model.half().float() if halved else model


def note(settings: Settings, base: Path) -> Path:
    return settings.paths.root / "serve" / f"{fingerprint(base)}-{__version__}.json"


def test_compiled_code_can_be_switched_off_and_logits_agree(save: Save, tmp_path: Path) -> None:
    base = save(llama())
    settings = Settings(data_dir=tmp_path / "data", serve_weights="float32")
    reference, _ = load_runner(base, settings.model_copy(update={"serve_compiled": False}))
    compiled, _ = load_runner(base, settings)
    assert (type(reference), type(compiled)) == (TransformersRunner, CompiledRunner)
    chunk: SequenceChunk[AnyAdapter] = SequenceChunk(0, 0, (5, 17, 900, 3), None, 4)
    assert numpy.allclose(compiled.forward([chunk]), reference.forward([chunk]), atol=1e-4)


def test_switched_off_code_serves_no_float16(save: Save, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", serve_weights="float16", serve_compiled=False)
    with pytest.raises(InvalidRequest, match="serve_compiled is off"):
        load_runner(save(llama()), settings)


@needs_half
def test_weights_that_are_float16_numbers_need_no_check(save: Save, tmp_path: Path) -> None:
    settings, base = Settings(data_dir=tmp_path / "data"), save(llama(halved=True))
    runner, width = load_runner(base, settings)
    assert (type(runner), width) == (CompiledRunner, "float16")
    assert not note(settings, base).exists()


@pytest.mark.parametrize("halved", [True, False])
def test_float32_is_what_the_setting_says_whatever_the_weights(save: Save, tmp_path: Path, halved: bool) -> None:
    settings = Settings(data_dir=tmp_path / "data", serve_weights="float32")
    runner, width = load_runner(save(llama(halved=halved)), settings)
    assert (type(runner), width) == (CompiledRunner, "float32")
    assert runner.context_length == 512


@needs_half
def test_float16_that_the_setting_asks_for_is_not_checked(save: Save, tmp_path: Path) -> None:
    settings, base = Settings(data_dir=tmp_path / "data", serve_weights="float16"), save(llama())
    assert load_runner(base, settings)[1] == "float16"
    assert not note(settings, base).exists()


@needs_half
def test_other_weights_are_checked_once_and_the_finding_decides(save: Save, tmp_path: Path) -> None:
    settings, base = Settings(data_dir=tmp_path / "data"), save(llama())
    width = load_runner(base, settings)[1]
    kept = json.loads(note(settings, base).read_text())
    found = Finding(**kept["value"])
    assert width == ("float16" if found.acceptable else "float32")
    assert 0 < found.agreement <= 1
    written = note(settings, base).stat().st_mtime_ns
    assert load_runner(base, settings)[1] == width
    assert note(settings, base).stat().st_mtime_ns == written
    write_finding(note(settings, base), Finding(0.0, 9.0))
    assert load_runner(base, settings)[1] == "float32"


@needs_half
@pytest.mark.parametrize("text", ["", "{", "[]", '{"agreement": 1.0}', '{"agreement": 1, "surprise": 0, "more": 1}'])
def test_a_damaged_finding_is_made_again(save: Save, tmp_path: Path, text: str) -> None:
    settings, base = Settings(data_dir=tmp_path / "data"), save(llama())
    path = note(settings, base)
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert read_width(path) is None
    load_runner(base, settings)
    assert read_width(path) is not None


def test_another_family_is_served_by_transformers_in_float32(save: Save, tmp_path: Path) -> None:
    base = save(CohereForCausalLM(CohereConfig(**SIZES)))
    runner, width = load_runner(base, Settings(data_dir=tmp_path / "data"))
    assert (type(runner), width) == (TransformersRunner, "float32")
    with pytest.raises(InvalidRequest, match=r"Setting serve_weights: this base is of a family .*'auto' or 'float32'"):
        load_runner(base, Settings(data_dir=tmp_path / "data", serve_weights="float16"))


def test_weights_beyond_float16_stay_float32(save: Save, tmp_path: Path) -> None:
    model = llama()
    model.model.layers[0].mlp.up_proj.weight.data[0, 0] = 2 * LARGEST
    base = save(model)
    assert load_runner(base, Settings(data_dir=tmp_path / "data"))[1] == "float32"
    with pytest.raises(InvalidRequest, match="beyond float16's range"):
        load_runner(base, Settings(data_dir=tmp_path / "data", serve_weights="float16"))


@pytest.mark.parametrize("stored", ["bfloat16", *(["float16"] if HAS_HALF else [])])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_a_base_stored_in_16_bits_is_served_so_with_the_bits_of_its_float32_copy(
    save: Save, tmp_path: Path, stored: str, tied: bool
) -> None:
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=tied)).to(getattr(torch, stored))
    chunks: list[SequenceChunk[AnyAdapter]] = [SequenceChunk(0, 0, (5, 17, 900, 3), None, 4)]
    settings, base = Settings(data_dir=tmp_path / "data"), save(model)
    narrow, width = load_runner(base, settings)
    assert (type(narrow), width) == (CompiledRunner, stored)
    wide, width = load_runner(base, settings.model_copy(update={"serve_weights": "float32"}))
    assert width == "float32"
    model.float().save_pretrained(base)
    copy, _ = load_runner(base, settings.model_copy(update={"serve_weights": "float32"}))
    with torch.inference_mode():
        expected = copy.forward(chunks)
        assert numpy.array_equal(narrow.forward(chunks), expected)
        assert numpy.array_equal(wide.forward(chunks), expected)
    assert not note(settings, base).exists()


def test_a_base_in_16_bits_of_another_family_is_served_in_float32(save: Save, tmp_path: Path) -> None:
    runner, width = load_runner(save(CohereForCausalLM(CohereConfig(**SIZES)).bfloat16()), Settings(data_dir=tmp_path))
    assert (type(runner), width) == (TransformersRunner, "float32")
    assert {parameter.dtype for parameter in runner.model.parameters()} == {torch.float32}  # type: ignore[attr-defined]


def test_nothing_is_compiled_for_a_family_that_has_no_compiled_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[str] = []
    monkeypatch.setattr(loading, "is_cached", lambda _: False)
    monkeypatch.setattr(loading, "precompile", lambda name, *_: compiled.append(name))
    settings = Settings(data_dir=tmp_path, serve_weights="float32")
    load_runner(write(ZOO["cohere"], tmp_path / "cohere"), settings)
    assert compiled == []
    load_runner(write(ZOO["llama"], tmp_path / "llama"), settings)
    assert compiled == ["serving"]


@needs_half
@pytest.mark.parametrize("wanted", ["int8", "int4"])
def test_what_fewer_bits_cost_is_measured_once(save: Save, tmp_path: Path, wanted: str) -> None:
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**{**SIZES, "hidden_size": 256, "intermediate_size": 256})).bfloat16()
    settings, base = Settings(data_dir=tmp_path / "data", serve_weights=wanted), save(model)
    runner, width = load_runner(base, settings)
    assert (type(runner), width) == (CompiledRunner, wanted)
    kept = settings.paths.serve / f"{fingerprint(base)}-{__version__}-{wanted}.json"
    found = Finding(**json.loads(kept.read_text())["value"])
    assert 0 < found.agreement <= 1
    assert 0 < abs(found.surprise) < 1
    written = kept.stat().st_mtime_ns
    assert load_runner(base, settings)[1] == wanted
    assert kept.stat().st_mtime_ns == written
    assert not note(settings, base).exists()  # what `auto` goes by


@needs_half
def test_fewer_bits_without_memory_for_the_stored_weights_are_not_measured(
    save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, settings = save(llama()), Settings(data_dir=tmp_path / "data", serve_weights="int8")
    monkeypatch.setattr(loading, "free_memory", lambda: 1000)
    assert load_runner(base, settings)[1] == "int8"
    assert not [*settings.paths.serve.glob("*.json")]


@pytest.mark.parametrize("wanted", ["int8", "int4"])
def test_fewer_bits_of_another_family_are_refused(save: Save, tmp_path: Path, wanted: str) -> None:
    base = save(CohereForCausalLM(CohereConfig(**SIZES)))
    with pytest.raises(InvalidRequest, match=r"Setting serve_weights: this base is of a family .*'auto' or 'float32'"):
        load_runner(base, Settings(data_dir=tmp_path / "data", serve_weights=wanted))
