"""The real base in a real engine, loaded once; an adapter of random tensors that changes every layer's output."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from tunesmith.render.renderer import Renderer
from tunesmith.rows.messages import Message
from tunesmith.serve.engine.protocol import Engine
from tunesmith.serve.loaded_model import LoadedModel
from tunesmith.serve.pool import Pool
from tunesmith.settings import Settings


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    pool = Pool(Settings(data_dir=tmp_path_factory.mktemp("data"), serve_weights="float32"))  # to compare with others
    yield pool
    pool.close()


@pytest.fixture(scope="session")
def opened(pool: Pool, base_dir: Path) -> LoadedModel:
    return pool.open(base_dir)


@pytest.fixture(scope="session")
def engine(opened: LoadedModel) -> Engine:
    return opened.engine


@pytest.fixture(scope="session")
def adapter_dir(random_adapter: Callable[[Path, int], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_adapter(tmp_path_factory.mktemp("adapter"), 1)


@pytest.fixture(scope="session")
def reference(base_dir: Path) -> PreTrainedModel:
    """The same base in plain transformers."""
    return AutoModelForCausalLM.from_pretrained(base_dir, dtype=torch.float32).eval()


@pytest.fixture(scope="session")
def prompt(renderer: Renderer) -> tuple[int, ...]:
    return tuple(renderer.prompt([Message("user", "Name three colours of the rainbow, with a joke.")]))
