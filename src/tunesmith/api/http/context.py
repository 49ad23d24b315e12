"""What every route needs, kept on the application and handed to routes as dependencies.

@router.get("/things")
def list_things(context: ContextDep, key: KeyDep) -> JSONAnswer: ...

Dependencies here and elsewhere are `async def` though they wait for nothing: FastAPI sends each other one to a thread.
"""

from dataclasses import dataclass, replace
from typing import Annotated, cast

from fastapi import Depends, Request

from tunesmith.serve.pool import Pool
from tunesmith.settings import Settings
from tunesmith.store import KeyRow, ScopedStore, Store


@dataclass(frozen=True, slots=True)
class Context:
    """The process's long-lived parts, made by `create_app`."""

    settings: Settings
    store: Store | ScopedStore  # the whole one of the application; of a request with a key, its project's
    pool: Pool
    project: str = ""  # of the key; "": no key was needed


async def get_context(request: Request) -> Context:
    """With a store that has only the objects of the key's project; where no key is needed, the whole one."""
    context = cast(Context, request.app.state.context)
    key: KeyRow | None = getattr(request.state, "key", None)
    if key is None:
        return context
    return replace(context, store=cast(Store, context.store).of(key.project), project=key.project)


async def get_key(request: Request) -> KeyRow:
    """The key this call was authenticated with; `auth.Authentication` put it there before any route ran.

    Its project is the one that the call acts in.
    """
    return cast(KeyRow, request.state.key)


ContextDep = Annotated[Context, Depends(get_context)]
KeyDep = Annotated[KeyRow, Depends(get_key)]
