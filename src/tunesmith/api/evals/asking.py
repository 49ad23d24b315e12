"""Lets a model answer a row, or judge one, through the engine that chats use.

Such requests run in the background: they fill the batch, and every chat goes before them.
"""

import asyncio
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
from tunesmith.wire.body import read
from tunesmith.wire.chat import Chat

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0  # seconds, where an engine's queue is full
LANE = "/evals"  # added to a project's name: a queue and a prefix cache of its own


@dataclass(frozen=True, slots=True)
class Answered:
    """A model's whole answer."""

    model: str
    text: str
    calls: tuple[JsonValue, ...]
    finish: str
    usage: Usage


@dataclass(frozen=True, slots=True)
class Asker:
    """Asks models for one project's runs."""

    context: Context

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

    async def _start(self, body: JsonObject) -> tuple[str, Reply]:
        pause = FIRST_PAUSE
        while True:
            try:
                return await asyncio.to_thread(self._submit, body)
            except ServiceUnavailable:  # others are before it: a run can wait
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    def _submit(self, body: JsonObject) -> tuple[str, Reply]:
        request = chat_request(read(Chat, body))
        name, loaded = open_model(self.context, request.model)
        behind = replace(loaded, project=f"{self.context.project}{LANE}", background=True)
        return name, start_chat(request, behind, self.context.settings.chat_max_tokens)
