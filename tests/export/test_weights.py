"""Adapter and merged weights, as PEFT and transformers load them."""

import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from tests.export.conftest import narrowed, quietly, with_adapter, with_tokenizer
from tests.families.zoo import ZOO, write
from transformers import AutoModelForCausalLM

from tunesmith.errors import InvalidRequest, ServerFault
from tunesmith.export.folder import SPARE, new_folder
from tunesmith.export.formats import export
from tunesmith.export.gguf_file import plan_gguf
from tunesmith.export.kinds import Kind
from tunesmith.export.merged import merged_bytes
from tunesmith.export.peft_folder import peft_bytes
from tunesmith.export.tuned_model import TunedModel, open_tuned
from tunesmith.models.adapters import AdapterManifest, write_adapter
from tunesmith.models.directory import fingerprint
from tunesmith.models.tuned import link_base, write_model
from tunesmith.settings import Settings

IDS = torch.tensor([[5, 17, 3, 60, 8, 31, 90, 2]])
pytestmark = [  # in PEFT
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:The following .*_pattern keys did not match:RuntimeWarning"),
]
NAMES = ("adapter_config.json", "adapter_model.safetensors")


def logits(model: object, ids: torch.Tensor = IDS) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=ids).logits  # type: ignore[operator]
    return found


def test_peft_loads_the_adapter_and_merged_weights_compute_the_same(tuned: TunedModel, tmp_path: Path) -> None:
    adapter = export(tuned, "peft", tmp_path / "peft", quietly)
    merged = export(tuned, "safetensors", tmp_path / "merged", quietly)
    assert {path.name for path in adapter.files} >= {*NAMES, "tokenizer.json", "tokenizer_config.json"}
    named = json.loads((adapter.folder / NAMES[0]).read_text("utf-8"))["base_model_name_or_path"]
    base = AutoModelForCausalLM.from_pretrained(named, dtype=torch.float64)  # so that only the weights' rounding shows
    plain = logits(base)
    with_peft = logits(PeftModel.from_pretrained(base, adapter.folder).eval())
    assert float((with_peft - plain).abs().max()) > 1
    together = logits(AutoModelForCausalLM.from_pretrained(merged.folder, dtype=torch.float64))
    assert float((together - with_peft).abs().max()) < 1e-4


def test_files_are_the_owners_alone_and_nothing_is_left_beside_them(tuned: TunedModel, tmp_path: Path) -> None:
    found = export(tuned, "peft", tmp_path / "peft", quietly)
    assert stat.S_IMODE(found.folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in found.files} == {0o600}
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_merged_weights_have_the_bases_number_format_rounded_once(tmp_path: Path) -> None:
    base = narrowed(write(ZOO["qwen3"], tmp_path / "wide"), tmp_path / "base")
    model = with_adapter(base, tmp_path / "adapter")
    merged = load_file(export(model, "safetensors", tmp_path / "merged", quietly).folder / "model.safetensors")
    adapter, name = load_file(model.directory / NAMES[1]), "model.layers.0.mlp.up_proj"
    weight = load_file(base / "model.safetensors")[f"{name}.weight"]
    a, b = (adapter[f"base_model.model.{name}.lora_{kind}.weight"] for kind in "AB")
    assert {one.dtype for one in merged.values()} == {torch.bfloat16}
    assert torch.equal(merged[f"{name}.weight"], (weight.float() + 2.0 * (b @ a)).bfloat16())
    untouched = "model.embed_tokens.weight"
    assert torch.equal(merged[untouched], load_file(base / "model.safetensors")[untouched])


MERGED = (
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "qwen3_moe",
    "gemma2",
    "phi3",
    "smollm3",
    "granitemoehybrid",
    "olmo2",
)


@pytest.mark.parametrize("family", MERGED)
def test_families_merge_as_peft_merges_them(family: str, tmp_path: Path) -> None:
    base = write(ZOO[family], tmp_path / "base")
    model = with_adapter(base, tmp_path / "adapter")
    merged = export(model, "safetensors", tmp_path / "merged", quietly).folder
    with_peft = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), model.directory).eval()
    difference = logits(AutoModelForCausalLM.from_pretrained(merged)) - logits(with_peft)
    assert float(difference.abs().max()) < 1e-4


def test_layer_that_the_base_has_not_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    model = with_adapter(write(ZOO["llama"], tmp_path / "llama"), tmp_path / "adapter")
    other = TunedModel("ft:x", model.directory, write(ZOO["phi3"], tmp_path / "phi3"), "phi3", model.manifest)
    with pytest.raises(InvalidRequest, match=r"ft:x cannot be merged: .* its layer model\.layers\.0\..*--to peft"):
        export(other, "safetensors", tmp_path / "merged", quietly)
    assert {path.name for path in tmp_path.iterdir()} == {"llama", "adapter", "phi3"}


def test_full_disk_and_taken_name_are_told_before_anything_is_written(tuned: TunedModel, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(InvalidRequest, match="taken exists already"):
        export(tuned, "peft", tmp_path / "taken", quietly)
    with pytest.raises(InvalidRequest, match=r"There is no directory .*gone: make it"):
        export(tuned, "peft", tmp_path / "gone" / "x", quietly)
    said = rf"bytes free, and the export needs {1 << 60:,}"
    with pytest.raises(InvalidRequest, match=said), new_folder(tmp_path / "large", 1 << 60):
        pass
    assert not (tmp_path / "large").exists()


@pytest.mark.parametrize("kind", ["peft", "safetensors", "gguf", "ollama"])
def test_room_that_is_asked_for_is_what_is_written(base_dir: Path, tmp_path: Path, kind: Kind) -> None:
    tuned = with_adapter(with_tokenizer(base_dir, ZOO["llama"], tmp_path / "base"), tmp_path / "adapter")
    found = export(tuned, kind, tmp_path / kind, quietly)
    sizes = {
        "peft": lambda: peft_bytes(tuned),
        "safetensors": lambda: merged_bytes(tuned),
        "gguf": lambda: plan_gguf(tuned, "auto").bytes,
        "ollama": lambda: plan_gguf(tuned, "auto").bytes,
    }
    written = sum(file.stat().st_size for file in found.files)
    assert 0.95 * sizes[kind]() < written <= sizes[kind]() + SPARE


def test_failed_export_leaves_nothing(tuned: TunedModel, tmp_path: Path) -> None:
    def fail(_: str) -> None:
        raise KeyboardInterrupt

    before = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(KeyboardInterrupt):
        export(tuned, "peft", tmp_path / "peft", fail)
    assert {path.name for path in tmp_path.iterdir()} == before


def test_tuned_weights_are_exported_and_a_lora_on_them_brings_them_along(base_dir: Path, tmp_path: Path) -> None:
    base = with_tokenizer(base_dir, ZOO["llama"], tmp_path / "base")
    weights = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        weights.get_parameter("model.norm.weight").add_(0.5)
    whole = AdapterManifest("tiny", "0" * 16, "r", 0, 0.0, (), step=1, adapter="none")
    write_model(tmp_path / "whole", weights, base, whole)
    (tmp_path / "whole" / "card.json").write_text("{}")
    model = TunedModel("ft:w", tmp_path / "whole", tmp_path / "whole", "tiny", whole)
    exported = export(model, "safetensors", tmp_path / "merged", quietly)
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(exported.folder)), logits(weights))
    assert not {path.name for path in exported.files} & {"card.json", "manifest.json"}
    with pytest.raises(InvalidRequest, match="All weights of ft:w were trained: it has no adapter"):
        export(model, "peft", tmp_path / "peft", quietly)

    above = with_adapter(tmp_path / "whole", tmp_path / "lora")
    link_base(tmp_path / "whole", tmp_path / "lora")
    lora = replace(above, base_dir=tmp_path / "lora" / "base")
    folder = export(lora, "peft", tmp_path / "peft", quietly).folder
    below = AutoModelForCausalLM.from_pretrained(folder / "base")
    assert torch.equal(logits(below), logits(weights))
    with_peft = logits(PeftModel.from_pretrained(below, folder).eval())
    merged = export(lora, "safetensors", tmp_path / "both", quietly).folder
    assert float((logits(AutoModelForCausalLM.from_pretrained(merged)) - with_peft).abs().max()) < 1e-4


def test_model_is_opened_only_whole_and_on_the_base_that_it_was_trained_on(base_dir: Path, tmp_path: Path) -> None:
    base = with_tokenizer(base_dir, ZOO["llama"], tmp_path / "base")
    settings = Settings(data_dir=tmp_path, bases={"tiny": str(base)})
    model = with_adapter(base, tmp_path / "adapter")
    with pytest.raises(InvalidRequest, match="was trained on another tiny than the one in"):
        open_tuned("ft:t", "tiny", model.directory, settings)
    write_adapter(
        model.directory,
        load_file(model.directory / NAMES[1]),
        replace(model.manifest, base_fingerprint=fingerprint(base)),
    )
    opened = open_tuned("ft:t", "tiny", model.directory, settings)
    assert (opened.base_dir, opened.base_source, opened.is_adapter) == (base, str(base), True)
    with (model.directory / NAMES[1]).open("ab") as file:
        file.write(b"x")
    with pytest.raises(ServerFault, match=r"does not match its manifest"):
        open_tuned("ft:t", "tiny", model.directory, settings)
