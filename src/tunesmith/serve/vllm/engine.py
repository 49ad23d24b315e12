"""An engine that sends token ids to vLLM servers and gets tokens back.

One thread per engine runs an event loop with a connection for each request under way. `make trial-vllm` tries it
against vLLM itself.

What is not covered: fairness between projects, whose requests vLLM serves in the order they arrive.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from threading import Lock, Thread

import structlog

from tunesmith.errors import ServiceUnavailable, TunesmithError
from tunesmith.jsonvalue import JsonObject
from tunesmith.serve.engine.protocol import GenerateRequest, Generation
from tunesmith.serve.vllm.faults import AdapterRefused, BrokeOff, Busy, Failed, Misplaced, UnknownModel, Unreachable
from tunesmith.serve.vllm.replicas import Replica, Replicas
from tunesmith.serve.vllm.wire import Card, ChunkReader, request_body

ANOTHER_MAY = (Unreachable, Busy, Misplaced, AdapterRefused)  # answer what this server did not
ANOTHER_ONCE = (BrokeOff, Failed)  # it may be the request that broke it

log = structlog.get_logger(__name__)


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
    """An `Engine` whose model runs in vLLM servers."""

    def __init__(
        self, base: str, replicas: Sequence[Replica], *, context_length: int, fingerprint: str, waiting: int
    ) -> None:
        """Starts the engine's thread.

        `waiting`: requests of a project that may be without a first token.
        """
        self.context_length = context_length
        self.fingerprint = fingerprint
        self._base = base
        self._numbered = tuple(replicas)
        self._replicas = Replicas(base, replicas, self._joined)
        self._waiting_limit = waiting
        self._waiting: dict[Generation, str] = {}  # whose
        self._open: set[Generation] = set()
        self._lock = Lock()
        self._closing = False
        self._loop = asyncio.new_event_loop()
        self._idle = asyncio.Event()
        self._thread = Thread(target=self._run, name="tunesmith-remote", daemon=True)
        self._thread.start()

    def leave_out(self, number: int, error: TunesmithError) -> None:
        """Gives a server no requests until it is well."""
        self._loop.call_soon_threadsafe(self._replicas.leave_out, self._numbered[number], error)

    def submit(self, request: GenerateRequest) -> Generation:
        """Sends the request to a server.

        Raises ServiceUnavailable if too many requests wait, or no server can be reached.
        """
        if (out := self._replicas.all_out()) is not None:
            raise out
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

    async def _answer(self, request: GenerateRequest, generation: Generation) -> None:
        """Streams the answer: from another server where one gives none, and none of it has come."""
        tried: list[Replica] = []
        failure: TunesmithError | None = None
        broken = 0
        while (replica := self._replicas.best(tried)) is not None:
            tried.append(replica)
            try:
                with replica.busy():
                    await self._ask(replica, request, generation)
                return replica.answered()
            except TunesmithError as error:
                self._replicas.failed(replica, error)
                failure = error
                broken += isinstance(error, ANOTHER_ONCE)
                begun = generation not in self._waiting
                if begun or broken > 1 or not isinstance(error, (*ANOTHER_MAY, *ANOTHER_ONCE)):
                    break
        out = self._replicas.all_out()
        if failure is not None:
            failure.retry_after = None if out is None else out.retry_after
            raise failure
        raise out or ServiceUnavailable(f"No vLLM server takes requests for {self._base}; ask again in a moment.")

    async def _ask(self, replica: Replica, request: GenerateRequest, generation: Generation) -> None:
        """Streams one server's answer, a second time if it was restarted and has lost the adapter."""
        for again in (True, False):
            async with self._model(replica, request) as model:
                try:
                    return await self._stream(replica, request_body(request, model), request, generation)
                except UnknownModel as error:
                    if request.adapter is None:
                        raise replica.server.faults.lost_base(error) from error
                    replica.adapters.discard(model)
                    if not again:
                        raise

    def _model(self, replica: Replica, request: GenerateRequest) -> AbstractAsyncContextManager[str]:
        return nullcontext(self._base) if request.adapter is None else replica.adapters.using(request.adapter)

    async def _stream(
        self, replica: Replica, body: JsonObject, request: GenerateRequest, generation: Generation
    ) -> None:
        reader, left = ChunkReader(request), [*range(request.n)]
        async with aclosing(replica.server.complete(body)) as chunks:
            async for chunk in chunks:
                generation.cached_tokens = max(generation.cached_tokens, chunk.cached_tokens)
                deltas = reader.read(chunk)
                generation.prompt = generation.prompt or reader.prompt
                if deltas:
                    self._waiting.pop(generation, None)
                    generation.put(deltas)
                left = [choice for choice in range(request.n) if not reader.finished(choice)]
                if left and not any(generation.wanted(choice) for choice in left):
                    return
        if left:
            raise replica.server.faults.broke_off("the answer is not complete")
        if request.prompt_logprobs and len(generation.prompt) < len(request.prompt) - 1:
            raise replica.server.faults.not_vllm("no log-probabilities of the prompt")

    def _joined(self, card: Card) -> None:
        """A server is back: the context is the smallest of all."""
        if card.max_model_len is not None:
            self.context_length = min(self.context_length, card.max_model_len)

    def _done(self, generation: Generation, done: "Future[None]") -> None:
        error = None if done.cancelled() else done.exception()
        if error is None:
            generation.end()
        else:
            if isinstance(error, TunesmithError):  # also in mid-stream, where nobody else writes down the detail
                log.warning("remote answer failed", base=self._base, reason=str(error))
            else:
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
        await self._replicas.stop_asking()
        others = asyncio.all_tasks() - {asyncio.current_task()}  # cancelled requests that are closing their connections
        await asyncio.gather(*others, return_exceptions=True)
        await self._replicas.close()
