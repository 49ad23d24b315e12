"""Fixtures shared by all tests: a real base model, converted once into the user's cache."""

import gc
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from tunesmith.models.adapters import AdapterManifest, write_adapter
from tunesmith.models.directory import fingerprint, pull
from tunesmith.models.registry import resolve_base
from tunesmith.render.renderer import Renderer, load_renderer
from tunesmith.settings import Settings

os.environ.setdefault("TUNESMITH_TRAIN_IDLE", "false")  # tests keep all cores busy: a trainer would hardly get on

# What is imported and collected stays: walks through it find nothing, and are a quarter of the time of collecting.
gc.disable()

# Stores over SQLite and PostgreSQL, object storage, the cases of long lists, `make test`.
pytest_plugins = ["tests.databases", "tests.buckets", "tests.samples", "tests.side_by_side"]


def pytest_collection_finish() -> None:
    gc.freeze()  # so that walks while tests run pass it over
    gc.enable()


@pytest.fixture(autouse=True)
def default_logging() -> Iterator[None]:
    """A command that ran in this process has bound the log to a stderr that pytest closes."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def base_dir() -> Path:
    """SmolLM2-135M-Instruct as a Hugging Face directory."""
    settings = Settings()
    return pull(resolve_base("smollm2-135m-instruct", settings), settings)


@pytest.fixture(scope="session")
def small_base(base_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The setting `bases` of servers whose default base has its name and its context, but tiny random weights.

    For tests of what surrounds a model: it trains, loads and answers in a tenth of the time.
    """
    from tests.train.conftest import write_tiny_base  # which brings torch

    base = write_tiny_base(base_dir, tmp_path_factory.mktemp("small-base"))
    config = json.loads((base / "config.json").read_text("utf-8"))
    (base / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 8192}), "utf-8")
    return json.dumps({"smollm2-135m-instruct": str(base)})


@pytest.fixture(scope="session")
def renderer(base_dir: Path) -> Renderer:
    return load_renderer(base_dir)


@pytest.fixture(scope="session")
def random_adapter(base_dir: Path, renderer: Renderer) -> Callable[[Path, int], Path]:
    """Writes an adapter of random tensors (directory, seed) that changes every layer's output; gives the directory."""
    return lambda directory, seed: _write_random_adapter(directory, base_dir, renderer, seed)


def _write_random_adapter(directory: Path, base_dir: Path, renderer: Renderer, seed: int) -> Path:
    import torch

    config = json.loads((base_dir / "config.json").read_text(encoding="utf-8"))
    hidden, inner, rank = config["hidden_size"], config["intermediate_size"], 8
    heads, kv_heads = (config[name] * config["head_dim"] for name in ("num_attention_heads", "num_key_value_heads"))
    sizes = {
        "self_attn.q_proj": (heads, hidden),
        "self_attn.k_proj": (kv_heads, hidden),
        "self_attn.v_proj": (kv_heads, hidden),
        "self_attn.o_proj": (hidden, heads),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer in range(config["num_hidden_layers"]):
        for name, (out_features, in_features) in sizes.items():
            prefix = f"base_model.model.model.layers.{layer}.{name}"
            tensors[f"{prefix}.lora_A.weight"] = torch.randn(rank, in_features, generator=generator) * in_features**-0.5
            tensors[f"{prefix}.lora_B.weight"] = torch.randn(out_features, rank, generator=generator) * 0.2
    targets = tuple(name.rpartition(".")[2] for name in sizes)
    manifest = AdapterManifest(
        "smollm2-135m-instruct", fingerprint(base_dir), renderer.name, rank, 16.0, targets, step=1
    )
    write_adapter(directory, tensors, manifest)
    return directory
