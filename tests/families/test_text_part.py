"""The text model of a base that also takes images: what it computes, and which names its adapter has."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from tests.families.trial import OPTIONS, TEXT, train
from tests.families.zoo import ZOO, build, write

from tunesmith.families.peft_names import own_path
from tunesmith.families.text_part import stored_path, text_part
from tunesmith.models.adapters import AdapterManifest
from tunesmith.models.weights import load_model
from tunesmith.train.adapters.full_finetuning import FullFinetuning

WHOLES = [name for name, tiny in ZOO.items() if tiny.vision is not None]


@pytest.mark.parametrize("name", WHOLES)
def test_the_text_model_computes_what_the_whole_base_does(name: str) -> None:
    whole = build(ZOO[name])
    ids = torch.tensor([TEXT])
    with torch.no_grad():
        expected = whole(input_ids=ids).logits
        text = text_part(whole)
        # Some wholes make their positions in another way: equal bits on most processors, not on all.
        torch.testing.assert_close(text(input_ids=ids).logits, expected, rtol=0, atol=1e-5)
    assert not any("vision" in path or "visual" in path for path, _ in text.named_modules())
    for path in ("model.layers.0.mlp.gate_proj", "model.layers.1.self_attn.o_proj"):
        stored = stored_path(text, path)
        assert ".layers." in stored
        assert "language_model" in stored.split(".")
        assert own_path(stored) == path


def test_a_base_of_text_is_its_own_text_model() -> None:
    model = build(ZOO["llama"])
    assert text_part(model) is model
    assert stored_path(model, "model.layers.0.mlp") == "model.layers.0.mlp"


@pytest.mark.filterwarnings("ignore::FutureWarning")  # peft calls a name that transformers will drop
def test_peft_applies_the_adapter_to_the_whole_base(tmp_path: Path) -> None:
    """Its vision tower has layers of the same names, which stay as they are."""
    base = write(ZOO["gemma3"], tmp_path / "base")
    _, trained = train(base, tmp_path, packing=False)
    assert len(trained.adapter.layers) == 14  # of the vision tower's 12 none
    rank, alpha = OPTIONS.lora_rank, OPTIONS.lora_alpha
    manifest = AdapterManifest("tiny", "x", "y", rank, alpha, trained.adapter.target_modules, step=1)
    trained.adapter.write(tmp_path / "adapter", manifest)
    tuned = PeftModel.from_pretrained(build(ZOO["gemma3"]), tmp_path / "adapter").eval()
    with torch.no_grad():
        expected = trained.model(input_ids=torch.tensor([TEXT])).logits if trained.model else None
        torch.testing.assert_close(tuned(input_ids=torch.tensor([TEXT])).logits, expected, rtol=0, atol=1e-5)
    adapted = [name for name, _ in tuned.named_modules() if name.endswith("lora_A")]
    assert len(adapted) == 14
    assert all("language_model" in name for name in adapted)


def test_all_weights_of_a_text_model_are_written_as_a_base_of_text(tmp_path: Path) -> None:
    base = write(ZOO["qwen3_vl"], tmp_path / "base")
    (base / "preprocessor_config.json").write_text("{}", "utf-8")
    model = load_model(base, torch.float32)
    full = FullFinetuning(model, base)
    assert full.parameter_count < build(ZOO["qwen3_vl"]).num_parameters() / 2
    with torch.no_grad():
        full.flat.add_(0.01)
        expected = model(input_ids=torch.tensor([TEXT])).logits
    full.write(tmp_path / "tuned", AdapterManifest("tiny", "x", "y", 0, 0.0, (), step=1, adapter="none"))
    assert json.loads((tmp_path / "tuned" / "config.json").read_text("utf-8"))["model_type"] == "qwen3"
    with torch.no_grad():
        logits = load_model(tmp_path / "tuned", torch.float32)(input_ids=torch.tensor([TEXT])).logits
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-6)
