"""The engine of a base that vLLM servers answer for.

It is made after asking them what they serve.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tunesmith.errors import ServerFault, ServiceUnavailable, TunesmithError
from tunesmith.models.directory import context_length, fingerprint
from tunesmith.models.registry import list_bases
from tunesmith.serve.vllm.adapters import RemoteAdapters
from tunesmith.serve.vllm.engine import RemoteEngine
from tunesmith.serve.vllm.replicas import Replica
from tunesmith.serve.vllm.server import RemoteServer
from tunesmith.serve.vllm.wire import Card
from tunesmith.settings import Settings


@dataclass(frozen=True, slots=True)
class Found:
    """What a server says of itself."""

    base: str
    url: str
    cards: tuple[Card, ...] = ()  # the base first, then its adapters
    version: str = ""
    error: TunesmithError | None = None

    @property
    def context_length(self) -> int | None:
        """The context of the base there."""
        return self.cards[0].max_model_len if self.cards else None

    @property
    def adapters(self) -> list[str]:
        """The names of the adapters that it has."""
        return [card.id for card in self.cards if card.parent is not None]


def check_remotes(settings: Settings) -> None:
    """Raises ServerFault if the setting `serve_remote` names an unknown base."""
    known = {base.name for base in list_bases(settings)}
    for name in settings.serve_remote:
        if name not in known:
            raise ServerFault(
                f"The setting `serve_remote` names {name!r}, which is not a base. Bases here:"
                f" {', '.join(sorted(known))}; further ones belong into the setting `bases`."
            )


def look_at_servers(base: str, settings: Settings) -> list[Found]:
    """What the servers of a base say of themselves, in the order of the setting.

    Must not run on an event loop's thread.
    """

    async def look() -> list[Found]:
        return await asyncio.gather(*(_look(base, url, secret_key(settings)) for url in settings.serve_remote[base]))

    return asyncio.run(look())


def load_remote_engine(base: str, base_dir: Path, settings: Settings) -> RemoteEngine:
    """The engine for `base`, which begins with the servers that answer now.

    Must not run on an event loop's thread.

    Raises ServiceUnavailable if none can be reached, and ServerFault if they serve something else.
    """
    found = look_at_servers(base, settings)
    there = [one for one in found if one.error is None]
    if not there:
        raise _none(base, found)
    contexts = [one.context_length for one in there if one.context_length]
    kinds = sorted({f"{one.version} {one.cards[0].root}" for one in there})
    engine = RemoteEngine(
        base,
        [_replica(one, settings) for one in found],
        context_length=min(contexts) if contexts else context_length(base_dir),
        fingerprint=f"{fingerprint(base_dir)} vllm {', '.join(kinds)}",
        waiting=settings.chat_waiting,
    )
    for number, one in enumerate(found):
        if one.error is not None:
            engine.leave_out(number, one.error)
    return engine


async def _look(base: str, url: str, key: str | None) -> Found:
    server = RemoteServer(base, url, key)
    try:
        cards = await server.models()
        return Found(base, url, tuple(cards), await server.version())
    except TunesmithError as error:
        return Found(base, url, error=error)
    finally:
        await server.close()


def secret_key(settings: Settings) -> str | None:
    """The servers' key."""
    return None if settings.serve_remote_key is None else settings.serve_remote_key.get_secret_value()


def _replica(found: Found, settings: Settings) -> Replica:
    server = RemoteServer(found.base, found.url, secret_key(settings))
    return Replica(server, RemoteAdapters(server, settings.serve_remote_adapters, found.adapters))


def _none(base: str, found: Sequence[Found]) -> TunesmithError:
    """Why no server answers: the first reason that may pass, if there is one."""
    errors = [one.error for one in found if one.error is not None]
    passing = [error for error in errors if isinstance(error, ServiceUnavailable)]
    first = (passing or errors)[0]
    if len(errors) == 1:
        return first
    kind = ServiceUnavailable if passing else ServerFault
    return kind(
        f"None of the {len(errors)} vLLM servers that answer for {base} can be used: {first.message}",
        code=first.code,
        detail="; ".join(map(str, errors)),
    )
