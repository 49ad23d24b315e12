"""Fixtures shared by all tests: a real base model, converted once into the user's cache."""

from pathlib import Path

import pytest

from tunesmith.data.render import Renderer, load_renderer
from tunesmith.models.directory import pull
from tunesmith.models.registry import resolve_base
from tunesmith.settings import Settings


@pytest.fixture(scope="session")
def base_dir() -> Path:
    """SmolLM2-135M-Instruct as a Hugging Face directory."""
    settings = Settings()
    return pull(resolve_base("smollm2-135m-instruct", settings), settings)


@pytest.fixture(scope="session")
def renderer(base_dir: Path) -> Renderer:
    return load_renderer(base_dir)
