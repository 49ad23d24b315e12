"""An engine that sends token ids to a vLLM server and gets tokens back.

For GPUs. Written from vLLM's documentation and tested with a small fake of its API; it has neither been measured nor
run against a real vLLM. One thread per engine runs an event loop with a connection for each request under way.

What is not covered: grammars and a prompt's log-probabilities (refused), and fairness between projects, whose requests
vLLM serves in the order they arrive.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from dataclasses import fields
from pathlib import Path
from threading import Lock, Thread

import structlog

from tunesmith.errors import InvalidRequest, ServerFault, ServiceUnavailable, TunesmithError
from tunesmith.models.directory import context_length, fingerprint
from tunesmith.models.registry import list_bases
from tunesmith.serve.engine.protocol import GenerateRequest, Generation
from tunesmith.serve.vllm.adapters import RemoteAdapters
from tunesmith.serve.vllm.server import RemoteServer, UnknownModel
from tunesmith.serve.vllm.wire import Card, ChunkReader, request_body
from tunesmith.settings import Settings

SAMPLING = ("temperature", "top_p", "seed", "presence_penalty", "frequency_penalty", "logit_bias", "top_logprobs")
# What vLLM gets, or what changes no answer.
SENT = frozenset(("prompt", "max_tokens", "eos_ids", "n", "adapter", "project", "background", *SAMPLING))

log = structlog.get_logger(__name__)


def check_remotes(settings: Settings) -> None:
    """Raises ServerFault if the setting `serve_remote` names an unknown base."""
    known = {base.name for base in list_bases(settings)}
    for name in settings.serve_remote:
        if name not in known:
            raise ServerFault(
                f"The setting `serve_remote` names {name!r}, which is not a base. Bases here:"
                f" {', '.join(sorted(known))}; further ones belong into the setting `bases`."
            )


def load_remote_engine(base: str, base_dir: Path, settings: Settings) -> "RemoteEngine":
    """The engine for `base`, after asking its server what it serves.

    Must not run on an event loop's thread.

    Raises ServiceUnavailable if the server cannot be reached, and ServerFault if it serves something else.
    """
    url, key = settings.serve_remote[base], settings.serve_remote_key
    secret = None if key is None else key.get_secret_value()
    cards, version = asyncio.run(_ask(base, url, secret))
    card = _card(base, url, cards)
    return RemoteEngine(
        RemoteServer(base, url, secret),
        context_length=card.max_model_len or context_length(base_dir),
        fingerprint=f"{fingerprint(base_dir)} vllm {version} {card.root}",
        waiting=settings.chat_waiting,
        adapters=settings.serve_remote_adapters,
        loaded=[card.id for card in cards if card.parent is not None],
    )


async def _ask(base: str, url: str, key: str | None) -> tuple[list[Card], str]:
    server = RemoteServer(base, url, key)
    try:
        return await server.models(), await server.version()
    finally:
        await server.close()


def _card(base: str, url: str, cards: list[Card]) -> Card:
    for card in cards:
        if card.id == base and card.parent is None:
            return card
    served = ", ".join(repr(card.id) for card in cards if card.parent is None) or "nothing"
    raise ServerFault(
        f"The vLLM server at {url} serves {served}, not {base!r}. Start it on that base with --served-model-name"
        f" {base}, or correct the setting `serve_remote`."
    )


class RemoteGeneration(Generation):
    """A generation that cancels its request once no choice is wanted any more."""

    def __init__(self, choices: int) -> None:
        super().__init__(choices)
        self.cancel: Callable[[], object] = lambda: None

    def stop(self, choice: int) -> None:
        """Ends one choice; the last one cancels the request."""
        super().stop(choice)
        if self.closed:
            self.cancel()

    def close(self) -> None:
        """Ends all choices and cancels the request."""
        super().close()
        self.cancel()


class RemoteEngine:
    """An `Engine` whose model runs in a vLLM server."""

    def __init__(
        self,
        server: RemoteServer,
        *,
        context_length: int,
        fingerprint: str,
        waiting: int,
        adapters: int,
        loaded: list[str],
    ) -> None:
        """Starts the engine's thread.

        `waiting`: requests of a project that may be without a first token. `adapters`: how many may stay loaded at the
        server. `loaded`: the names of those it has already.
        """
        self.context_length = context_length
        self.fingerprint = fingerprint
        self._server = server
        self._adapters = RemoteAdapters(server, adapters, loaded)
        self._waiting_limit = waiting
        self._waiting: dict[Generation, str] = {}  # whose
        self._open: set[Generation] = set()
        self._lock = Lock()
        self._closing = False
        self._loop = asyncio.new_event_loop()
        self._idle = asyncio.Event()
        self._thread = Thread(target=self._run, name="tunesmith-remote", daemon=True)
        self._thread.start()

    def submit(self, request: GenerateRequest) -> Generation:
        """Sends the request to the server.

        Raises InvalidRequest if vLLM cannot serve it, and ServiceUnavailable if too many requests wait.
        """
        self._check(request)
        generation = RemoteGeneration(request.n)
        with self._lock:
            if self._closing:
                raise ServiceUnavailable("This model is being unloaded; try again.", code="model_unloading")
            if [*self._waiting.values()].count(request.project) >= self._waiting_limit:
                raise ServiceUnavailable(
                    f"{self._waiting_limit} requests are already waiting for this model; try again later.",
                    code="server_is_overloaded",
                )
            self._waiting[generation] = request.project
            self._open.add(generation)
            future = asyncio.run_coroutine_threadsafe(self._answer(request, generation), self._loop)
        generation.cancel = future.cancel
        future.add_done_callback(lambda done: self._done(generation, done))
        return generation

    def close(self) -> None:
        """Refuses new requests; the thread ends once those under way are answered."""
        with self._lock:
            self._closing = True
            idle = not self._open
        if idle:
            self._end()

    def join(self, timeout: float | None = None) -> None:
        """Waits, after `close`, until all requests are answered; at most `timeout` s."""
        self._thread.join(timeout)

    @property
    def alive(self) -> bool:
        """True while the thread that talks to the server runs."""
        return self._thread.is_alive()

    def _check(self, request: GenerateRequest) -> None:
        """Refuses a request with fields that vLLM would not get, rather than ignoring them."""
        for field in fields(request):
            if field.name in SENT or getattr(request, field.name) == field.default:
                continue
            raise InvalidRequest(
                f"{self._server.base} answers through vLLM, where this is not implemented: {field.name}. Leave out what"
                " asks for it (`response_format`, a forced `tool_choice`, `strict` tools, `echo` with `logprobs`), or"
                " take the base out of the setting `serve_remote`."
            )

    async def _answer(self, request: GenerateRequest, generation: Generation) -> None:
        """Streams the answer, a second time if the server was restarted and has lost the adapter."""
        for again in (True, False):
            async with self._model(request) as model:
                try:
                    return await self._stream(model, request, generation)
                except UnknownModel:
                    if request.adapter is None or not again:
                        raise
                    self._adapters.discard(model)

    def _model(self, request: GenerateRequest) -> AbstractAsyncContextManager[str]:
        return nullcontext(self._server.base) if request.adapter is None else self._adapters.using(request.adapter)

    async def _stream(self, model: str, request: GenerateRequest, generation: Generation) -> None:
        reader, left = ChunkReader(request), [*range(request.n)]
        async with aclosing(self._server.complete(request_body(request, model))) as chunks:
            async for chunk in chunks:
                generation.cached_tokens = max(generation.cached_tokens, chunk.cached_tokens)
                deltas = reader.read(chunk)
                if deltas:
                    self._waiting.pop(generation, None)
                    generation.put(deltas)
                left = [choice for choice in range(request.n) if not reader.finished(choice)]
                if left and not any(generation.wanted(choice) for choice in left):
                    return
        if left:
            raise self._server.broke_off("the answer is not complete")

    def _done(self, generation: Generation, done: "Future[None]") -> None:
        error = None if done.cancelled() else done.exception()
        if error is None:
            generation.end()
        else:
            if not isinstance(error, TunesmithError):
                log.error("remote answer failed", exc_info=error)
            generation.fail(error)
        with self._lock:
            self._waiting.pop(generation, None)
            self._open.discard(generation)
            idle = self._closing and not self._open
        if idle:
            self._end()

    def _end(self) -> None:
        if self.alive and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._idle.set)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        await self._idle.wait()
        others = asyncio.all_tasks() - {asyncio.current_task()}  # cancelled requests that are closing their connections
        await asyncio.gather(*others, return_exceptions=True)
        await self._server.close()
