"""A real base with an adapter of random tensors, and tiny bases of other families."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.families.zoo import SIZES, Tiny, write
from tests.render.bases import VOCABULARY, make_base

from tunesmith.export.tuned_model import TunedModel
from tunesmith.models.adapters import AdapterManifest, read_manifest, write_adapter

PLAIN = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"


@pytest.fixture
def tuned(base_dir: Path, random_adapter: Callable[[Path, int], Path], tmp_path: Path) -> TunedModel:
    """SmolLM2 with an adapter that changes every layer."""
    directory = random_adapter(tmp_path / "adapter", 3)
    return TunedModel("ft:smollm2::x", directory, base_dir, str(base_dir), read_manifest(directory))


def with_adapter(base: Path, directory: Path, rank: int = 4, seed: int = 0) -> TunedModel:
    """A base of any family with an adapter on every linear layer of its blocks."""
    from tunesmith.families.lora_layers import linear_paths

    generator, tensors = torch.Generator().manual_seed(seed), {}
    shapes = {name: one.shape for file in base.glob("*.safetensors") for name, one in load_file(file).items()}
    for path in linear_paths(base):
        out_features, in_features = shapes[f"{path}.weight"]
        for kind, shape in (("A", (rank, in_features)), ("B", (out_features, rank))):
            name = f"base_model.model.{path}.lora_{kind}.weight"
            tensors[name] = 0.2 * torch.randn(*shape, generator=generator)
    targets = tuple(sorted({path.rpartition(".")[2] for path in linear_paths(base)}))
    manifest = AdapterManifest("tiny", "0" * 16, "r", rank, 8.0, targets, step=1)
    write_adapter(directory, tensors, manifest)
    return TunedModel("ft:tiny::x", directory, base, str(base), read_manifest(directory))


def with_tokenizer(base_dir: Path, tiny: Tiny, target: Path, pre: object | None = None) -> Path:
    """A tiny base of a family with SmolLM2's first tokens, and perhaps another rule that splits texts."""
    made = make_base(base_dir, target, PLAIN)
    write(Tiny(tiny.model_type, {**SIZES, **tiny.changes, "vocab_size": VOCABULARY}), target)
    if pre:
        value = json.loads((made / "tokenizer.json").read_text("utf-8"))
        (made / "tokenizer.json").write_text(json.dumps({**value, "pre_tokenizer": pre}), "utf-8")
    return made


def narrowed(base: Path, target: Path) -> Path:
    """The base in bfloat16."""
    target.mkdir()
    for file in base.iterdir():
        if file.suffix == ".json":
            (target / file.name).write_text(file.read_text("utf-8"), "utf-8")
    config = json.loads((base / "config.json").read_text("utf-8"))
    (target / "config.json").write_text(json.dumps({**config, "dtype": "bfloat16"}), "utf-8")
    for file in base.glob("*.safetensors"):
        save_file({name: one.bfloat16() for name, one in load_file(file).items()}, target / file.name, {"format": "pt"})
    return target


def quietly(_: str) -> None:
    """Nobody waits."""
