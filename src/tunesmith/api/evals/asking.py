"""Lets a model answer a row, or judge one, through the engine that chats use.

Such requests run in the background: they fill the batch, and every chat goes before them.
"""

import asyncio
import time
from dataclasses import dataclass, replace
from typing import cast

from tunesmith.api.http.context import Context
from tunesmith.api.http.models import open_model
from tunesmith.api.views.chat import Head, completion
from tunesmith.errors import NotFound, ServerFault, ServiceUnavailable
from tunesmith.graders.grader import ModelGrader
from tunesmith.graders.results import Record, Tokens
from tunesmith.graders.runner import Messages, Wrote
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.serve.chat.answer import Reply, Usage, start_chat
from tunesmith.serve.chat.request import chat_request
from tunesmith.serve.loaded_model import LoadedModel
from tunesmith.wire.body import read
from tunesmith.wire.chat.bodies import Chat

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0  # seconds, where an engine's queue is full
LANE = "/evals"  # added to a project's name: a queue and a prefix cache of its own
KEEP_SECONDS = 2.0  # that a model's name stands for the same weights: looking it up costs more than asking it
SMALL = 20_000  # characters of a request that is prepared on the event loop: a thread costs more than that takes


@dataclass(frozen=True, slots=True)
class Answered:
    """A model's whole answer."""

    model: str
    text: str
    calls: tuple[JsonValue, ...]
    finish: str
    usage: Usage


@dataclass(frozen=True, slots=True)
class _Opened:
    """A model that was looked up, and until when that holds."""

    name: str
    loaded: LoadedModel
    until: float


class Asker:
    """Asks models for one run, on the event loop of the runs."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._opened: dict[str, _Opened] = {}
        self._opening = asyncio.Lock()

    async def answer(self, body: JsonObject) -> Answered:
        """The answer to a chat request. Raises what chat would refuse it with."""
        name, reply = await self._start(body)
        try:
            pieces = await reply.whole_async()
        finally:
            reply.close()  # a run that has ended leaves the engine nothing to do
        head = Head(name, reply.fingerprint, legacy_functions=False, logprobs=False)
        choice = completion(head, pieces, reply.usage, 1)["choices"][0]
        message = choice["message"]
        calls = tuple(cast(list[JsonValue], message.get("tool_calls", [])))
        return Answered(name, message["content"] or "", calls, choice["finish_reason"] or "stop", reply.usage)

    async def judge(self, leaf: ModelGrader, messages: Messages, record: Record) -> Wrote:
        """What a grader's model wrote; the tokens that it took are added to the record."""
        turns: list[JsonValue] = [{"role": role, "content": text} for role, text in messages]
        try:
            found = await self.answer({"model": leaf.model, "messages": turns, **leaf.sampling})
        except NotFound as error:  # it was there when the eval was made
            raise ServerFault(error.message) from error
        used = found.usage
        record.spend(found.model, Tokens(used.prompt_tokens, used.completion_tokens, used.cached_tokens))
        return Wrote(found.model, found.text, found.finish == "length")

    async def open(self, model: str) -> _Opened:
        """The model, which may have to be loaded. Raises NotFound.

        Rows that come together look it up once.
        """
        async with self._opening:
            found = self._opened.get(model)
            if found is None or time.monotonic() > found.until:
                found = self._opened[model] = await asyncio.to_thread(self._open, model)
            return found

    async def _start(self, body: JsonObject) -> tuple[str, Reply]:
        pause = FIRST_PAUSE
        while True:
            try:
                opened = await self.open(str(body["model"]))
                if _is_small(body):
                    return opened.name, self._submit(body, opened)
                return opened.name, await asyncio.to_thread(self._submit, body, opened)
            except ServiceUnavailable:  # others are before it, or the model was unloaded: a run can wait
                self._opened.clear()
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    def _open(self, model: str) -> _Opened:
        name, loaded = open_model(self._context, model)
        behind = replace(loaded, project=f"{self._context.project}{LANE}", background=True)
        return _Opened(name, behind, time.monotonic() + KEEP_SECONDS)

    def _submit(self, body: JsonObject, opened: _Opened) -> Reply:
        request = chat_request(read(Chat, body))
        return start_chat(request, opened.loaded, self._context.settings.chat_max_tokens)


def _is_small(body: JsonObject) -> bool:
    """Whether preparing the request takes about a millisecond: no schema or tool to compile, and few texts."""
    if body.keys() & {"response_format", "tools"}:
        return False
    messages = body["messages"]
    return isinstance(messages, list) and sum(len(str(one)) for one in messages) <= SMALL
