"""The bases that a page may choose from, and where they are."""

from pathlib import Path

from tunesmith.errors import InvalidRequest
from tunesmith.models.directory import context_length, is_present, materialise
from tunesmith.models.registry import BaseModel, default_base, list_bases, resolve_base
from tunesmith.models.tuned import own_base
from tunesmith.settings import Settings
from tunesmith.store import ScopedStore


def base_names(settings: Settings) -> list[str]:
    """The bases by name, the default one first."""
    first = default_base(settings).name
    return [first, *(base.name for base in list_bases(settings) if base.name != first)]


def base_folder(name: str, settings: Settings) -> tuple[Path, int]:
    """The directory of a base, and the most tokens of a row that are trained.

    Converting one for the first time takes seconds. Raises InvalidRequest for an unknown base, and for one that is not
    here: nothing is fetched for a page.
    """
    base: BaseModel = resolve_base(name, settings)
    if not is_present(base, settings):
        raise InvalidRequest(
            f"{base.name} is not on this machine, so its tokens cannot be counted. Get it: tunesmith models pull "
            f"{base.name}",
            param="model",
        )
    folder = materialise(base, settings)
    context = context_length(folder)
    return folder, min(settings.max_example_tokens or context, context)


def model_folder(name: str, store: ScopedStore, settings: Settings) -> tuple[Path, int]:
    """The same for a base or a tuned model.

    A tuned model has its base's tokenizer and template, or its own where all weights were trained. Raises
    InvalidRequest as for a base, and for a tuned model without weights.
    """
    tuned = store.models.resolve(name)
    own = None if tuned is None or tuned.adapter_dir is None else own_base(tuned.adapter_dir)
    if own is None:
        return base_folder(name if tuned is None else tuned.base_model, settings)
    context = context_length(own)
    return own, min(settings.max_example_tokens or context, context)
