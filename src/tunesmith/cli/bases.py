"""The base model whose tokenizer a command counts with, without any network."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tunesmith.cli.output.waiting import Waiting
from tunesmith.errors import InvalidRequest
from tunesmith.models.base_check import relative_place, unusable
from tunesmith.models.directory import context_length, is_present, materialise
from tunesmith.models.given_path import directory_read_otherwise, looks_like_path, path_instead_of_name
from tunesmith.models.registry import BaseModel, HubRepository, PackagedGguf, default_base, resolve_base
from tunesmith.render.renderer import Renderer, load_renderer
from tunesmith.settings import Settings
from tunesmith.system import activity


@dataclass(frozen=True, slots=True)
class LocalBase:
    """A base model with its renderer, as far as they are on this machine.

    `directory` and `renderer` are None when the weights are missing; `max_tokens` is the longest row it takes.
    """

    base: BaseModel
    directory: Path | None
    renderer: Renderer | None
    max_tokens: int | None

    @property
    def name(self) -> str:
        """The base model's name."""
        return self.base.name


def base_here(name: str | None, settings: Settings) -> BaseModel:
    """The base model called `name`, or the default one, by this machine's settings.

    Raises InvalidRequest for an unknown name. Of a path it says why that is no base, or how to make it one.
    """
    try:
        base = resolve_base(name, settings, lambda: _kept(settings)) if name else default_base(settings)
    except InvalidRequest as error:
        cause = path_instead_of_name(name or settings.base_model)
        if cause is None:
            raise
        where = "" if name else "Setting base_model: "
        raise InvalidRequest(f"{where}{cause.message}", param=cause.param, code=cause.code) from error
    directory = directory_read_otherwise(base)
    hub_id = isinstance(base.source, HubRepository)
    if directory is not None and not (hub_id and is_present(base, settings)):
        raise unusable(base.name, relative_place(settings.bases[base.name], directory, hub_id=hub_id))
    return base


def _kept(settings: Settings) -> Mapping[str, str]:
    from tunesmith.store import read_aliases  # imports SQLAlchemy, which most commands do without

    return read_aliases(settings)


def require_no_path(name: str | None, settings: Settings) -> None:
    """Raises InvalidRequest where a path is given for a model, with the cause."""
    if name is not None and looks_like_path(name) and name not in settings.bases and name not in settings.aliases:
        cause = path_instead_of_name(name)
        if cause is not None:
            raise cause


def local_base(name: str | None, settings: Settings) -> LocalBase:
    """The base model called `name`, or the default one; nothing is fetched from a hub.

    Raises InvalidRequest for an unknown name, and for a directory that is no base.
    """
    base = base_here(name, settings)
    limit = settings.max_example_tokens
    if isinstance(base.source, HubRepository | PackagedGguf) and not is_present(base, settings):
        return LocalBase(base, None, None, limit or base.context_length)
    with Waiting(f"preparing the base model {base.name}", activity.here):
        directory = materialise(base, settings)
    context = context_length(directory)
    return LocalBase(base, directory, load_renderer(directory), min(limit or context, context))


def weights_missing(base: LocalBase) -> str:
    """The sentence that tells how to get the weights of `base`."""
    name = base.name
    return f"{name} is not on this machine, so its tokens cannot be counted. Get it: tunesmith models pull {name}"
