"""The base model a command counts with: its renderer where its weights are on this machine, without any network."""

from dataclasses import dataclass
from pathlib import Path

from tunesmith.models.directory import context_length, is_present, materialise
from tunesmith.models.registry import BaseModel, HubRepository, resolve_base
from tunesmith.render.renderer import Renderer, load_renderer
from tunesmith.settings import Settings


@dataclass(frozen=True, slots=True)
class LocalBase:
    """`directory` and `renderer` are None when the weights are not here; `max_tokens` is what a row may have."""

    base: BaseModel
    directory: Path | None
    renderer: Renderer | None
    max_tokens: int | None


def local_base(name: str | None, settings: Settings) -> LocalBase:
    """Raises InvalidRequest for an unknown name. A hub model that was never fetched is not fetched for a count."""
    base = resolve_base(name or settings.base_model, settings)
    limit = settings.max_example_tokens
    if isinstance(base.source, HubRepository) or not is_present(base, settings):
        return LocalBase(base, None, None, limit or base.context_length)
    directory = materialise(base, settings)
    return LocalBase(base, directory, load_renderer(directory), limit or context_length(directory))
