"""What is wrong with vLLM servers, before a request finds it out."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

from tunesmith.errors import TunesmithError
from tunesmith.jsonvalue import JsonObject
from tunesmith.serve.vllm.faults import Faults
from tunesmith.serve.vllm.loading import Found, look_at_servers, secret_key
from tunesmith.serve.vllm.server import RemoteServer
from tunesmith.settings import Settings


@dataclass(frozen=True, slots=True)
class Inspection:
    """One server; `faults` is empty if all is well."""

    base: str
    url: str
    version: str
    context_length: int | None
    adapters: int  # loaded
    faults: tuple[str, ...]

    def to_json(self) -> JsonObject:
        """As commands print it."""
        return {
            "base": self.base,
            "url": self.url,
            "version": self.version,
            "context_length": self.context_length,
            "adapters": self.adapters,
            "faults": [*self.faults],
        }


def inspect_servers(settings: Settings) -> Iterator[Inspection]:
    """All servers of all bases; asks each for a token.

    Must not run on an event loop's thread.
    """
    for base in settings.serve_remote:
        found = look_at_servers(base, settings)
        contexts = {one.context_length for one in found if one.context_length is not None}
        for one in found:
            faults = asyncio.run(_faults(one, settings))
            if len(contexts) > 1 and one.context_length == max(contexts):
                faults.append(f"its context is {max(contexts)} tokens, of which {min(contexts)} are used: all servers'")
            adapters = len(one.adapters)
            yield Inspection(base, one.url, one.version, one.context_length, adapters, tuple(faults))


async def _faults(found: Found, settings: Settings) -> list[str]:
    if found.error is not None:
        return [str(found.error)]
    faults: list[str] = []
    server = RemoteServer(found.base, found.url, secret_key(settings))
    try:
        await server.check_health()
        if not await server.takes_adapters():
            faults.append(f"it takes no adapters at run time: start it with {Faults.ADAPTERS_NEED}")
        if not await server.holds_grammars():
            faults.append(
                "it does not hold answers to a grammar: start it with --structured-outputs-config.backend guidance"
            )
    except TunesmithError as error:
        faults.append(str(error))
    finally:
        await server.close()
    return faults
