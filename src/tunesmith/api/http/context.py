"""What routes need, kept on the application and injected as dependencies.

@router.get("/things")
def list_things(context: ContextDep, key: KeyDep) -> JSONAnswer: ...

Without a key there is no context, so no route can reach the store unscoped. Dependencies here and elsewhere are
`async def` though they wait for nothing: FastAPI sends each other one to a thread.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, cast

from fastapi import Depends, Request

from tunesmith.errors import AuthenticationFailed
from tunesmith.settings import Settings
from tunesmith.store import KeyRow, ScopedStore, Store

if TYPE_CHECKING:
    from tunesmith.serve.pool import Pool  # with tokenizers and grammars, which take half a second to import


@dataclass(frozen=True, slots=True)
class Parts:
    """The process's long-lived parts. The store has all projects' objects."""

    settings: Settings
    store: Store
    pool: "Pool"


@dataclass(frozen=True, slots=True)
class Context:
    """What one call may use: the store is limited to its key's project."""

    settings: Settings
    store: ScopedStore
    pool: "Pool"
    project: str


async def get_key(request: Request) -> KeyRow:
    """The key of this call; its project is the one that the call acts in.

    `Authentication` puts it there before any route under /v1 runs. Raises AuthenticationFailed for a call without one.
    """
    key: KeyRow | None = getattr(request.state, "key", None)
    if key is None:
        raise AuthenticationFailed("This path takes no API key, so it has no access to any project's objects.")
    return key


async def get_context(request: Request) -> Context:
    """The context of a call. Raises AuthenticationFailed where it has no key."""
    key, parts = await get_key(request), _parts(request)
    return Context(parts.settings, parts.store.of(key.project), parts.pool, key.project)


async def get_probe(request: Request) -> Callable[[], None]:
    """Returns when the database has answered, for calls without a key.

    It shows nothing of what the database holds.
    """
    store = _parts(request).store

    def probe() -> None:
        store.jobs.page(limit=1)

    return probe


def _parts(request: Request) -> Parts:
    return cast(Parts, request.app.state.parts)


ContextDep = Annotated[Context, Depends(get_context)]
KeyDep = Annotated[KeyRow, Depends(get_key)]
ProbeDep = Annotated[Callable[[], None], Depends(get_probe)]
