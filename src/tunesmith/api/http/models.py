"""The model that a request names: found, and loaded so that it can answer."""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from anyio import CapacityLimiter, to_thread

from tunesmith.api.http.context import Context
from tunesmith.errors import InvalidRequest, NotFound, ServerFault
from tunesmith.models.directory import materialise
from tunesmith.models.registry import BaseModel, how_to_call, resolve_base
from tunesmith.models.tuned import own_base
from tunesmith.serve.loaded_model import LoadedModel

ADAPTER_HEADER = "x-tunesmith-adapter"  # of an answer: the digest of the tuned weights that gave it, or "none"

Answer = TypeVar("Answer")
OPENING_AT_ONCE = 16  # requests of a project; the others wait without a thread
_opening_threads: dict[str, CapacityLimiter] = {}  # by project


async def while_opening(context: Context, start: Callable[[], Answer]) -> Answer:
    """What `start`, which opens a model, returns.

    A model that is being fetched or loaded holds its threads for seconds or minutes; threads of their own keep the
    other routes answering, and other projects asking.
    """
    threads = _opening_threads.setdefault(context.project, CapacityLimiter(OPENING_AT_ONCE))
    return await to_thread.run_sync(start, limiter=threads)


def open_model(context: Context, name: str) -> tuple[str, LoadedModel]:
    """(name to answer with, loaded model). May take seconds.

    `name`: a tuned model, a checkpoint, a base, or an alias of one. Raises NotFound.
    """
    resolved, loaded = _open(context, name)
    return resolved, replace(loaded, project=context.project)


def _open(context: Context, name: str) -> tuple[str, LoadedModel]:
    tuned = context.store.models.resolve(name)
    if tuned is None:
        base = base_of(context, name)
        return base.name, context.pool.open(materialise(base, context.settings), base_name=base.name)
    own = None if tuned.adapter_dir is None else own_base(tuned.adapter_dir)
    if own is not None:
        return tuned.name, context.pool.open(own, tuned.adapter_dir)
    try:
        base = resolve_base(tuned.base_model, context.settings)
    except InvalidRequest as error:
        raise ServerFault(
            f"The base {tuned.base_model!r} of {name!r} is no longer configured. Add it to the setting `bases` again."
        ) from error
    return tuned.name, context.pool.open(materialise(base, context.settings), tuned.adapter_dir, base.name)


def base_of(context: Context, name: str) -> BaseModel:
    """The base of that name or alias.

    Raises NotFound, in OpenAI's words, and with what to do.
    """
    try:
        return resolve_base(name, context.settings, context.store.aliases.all)
    except InvalidRequest as error:
        if error.code == "base_not_usable":  # an alias of a base that this server does not know
            raise
        message = f"The model '{name}' does not exist. GET /v1/models lists those that do. {how_to_call(name)}"
        raise NotFound(message.rstrip(), param="model", code="model_not_found") from error
