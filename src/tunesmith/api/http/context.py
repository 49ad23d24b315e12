"""What every route needs, kept on the application and handed to routes as dependencies.

@router.get("/things")
def list_things(context: ContextDep, key: KeyDep) -> JSONAnswer: ...

Without a key there is no context, so no route can reach the store unscoped. Dependencies here and elsewhere are
`async def` though they wait for nothing: FastAPI sends each other one to a thread.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from tunesmith.errors import AuthenticationFailed
from tunesmith.serve.pool import Pool
from tunesmith.settings import Settings
from tunesmith.store import KeyRow, Store


@dataclass(frozen=True, slots=True)
class Parts:
    """The process's long-lived parts, made by `create_app`. The store has all projects' objects."""

    settings: Settings
    store: Store
    pool: Pool


@dataclass(frozen=True, slots=True)
class Context:
    """The parts as one call may use them: the store has only the objects of its key's project."""

    settings: Settings
    store: Store
    pool: Pool
    project: str


async def get_key(request: Request) -> KeyRow:
    """The key this call was authenticated with; its project is the one that the call acts in.

    `Authentication` puts it there before any route under /v1 runs. Raises AuthenticationFailed for a call without one.
    """
    key: KeyRow | None = getattr(request.state, "key", None)
    if key is None:
        raise AuthenticationFailed("This path takes no API key, so it has no access to any project's objects.")
    return key


async def get_context(request: Request) -> Context:
    """Raises AuthenticationFailed where the call has no key: no access without a project."""
    key, parts = await get_key(request), _parts(request)
    return Context(parts.settings, parts.store.of(key.project), parts.pool, key.project)


async def get_probe(request: Request) -> Callable[[], None]:
    """For calls without a key: returns when the database has answered, and shows nothing that is in it."""
    store = _parts(request).store

    def probe() -> None:
        store.jobs.page(limit=1)

    return probe


def _parts(request: Request) -> Parts:
    return cast(Parts, request.app.state.parts)


ContextDep = Annotated[Context, Depends(get_context)]
KeyDep = Annotated[KeyRow, Depends(get_key)]
ProbeDep = Annotated[Callable[[], None], Depends(get_probe)]
