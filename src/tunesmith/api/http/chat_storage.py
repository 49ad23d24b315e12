"""`store: true` of a chat request: keeps the completion once it is complete.

It is stored before the client is told that the answer has ended.

Not covered: an answer that was cut off, because the client disconnected or the engine failed; it is not stored.
"""

from dataclasses import dataclass
from typing import cast

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from tunesmith.api.http.context import Context
from tunesmith.api.http.rules import Rule
from tunesmith.api.middleware.body_limits import check_metadata
from tunesmith.api.middleware.roles import demand_allowed
from tunesmith.errors import InvalidRequest
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.store import ChatRow
from tunesmith.wire.chat.answers import Completion
from tunesmith.wire.chat.bodies import Chat

DEFAULTS: JsonObject = {"top_p": 1.0, "temperature": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
REQUEST_FIELDS = ("tool_choice", "seed", *DEFAULTS, "tools", "response_format")
STORES = Rule("member", deed="stores chats (`store: true`)")


@dataclass(frozen=True, slots=True)
class ChatStorage:
    """Stores the answer to one request."""

    context: Context
    request_id: str
    project: str
    request: JsonObject
    metadata: dict[str, str]

    def demand_room(self) -> None:
        """Raises InvalidRequest where the project has stored all it may."""
        most = self.context.settings.limit_stored_chats
        if most and self.context.store.chats.count() >= most:
            raise InvalidRequest(
                f"Project {self.project} has stored {most:,} chat completions, the limit here (setting "
                "limit_stored_chats). Delete some (DELETE /v1/chat/completions/ID), or ask without `store`.",
                param="store",
                code="stored_chats_limit",
            )

    async def add(self, completion: Completion) -> None:
        """Returns when the completion is stored.

        Raises ServiceUnavailable when the database does not answer.
        """
        if all(choice["finish_reason"] for choice in completion["choices"]):
            await run_in_threadpool(self.context.store.chats.add, self._row(completion))

    def _row(self, completion: Completion) -> ChatRow:
        messages = self.request.get("messages")
        extra: JsonObject = {name: self._value(name) for name in REQUEST_FIELDS}
        extra |= {"request_id": self.request_id, "input_user": self.request.get("user")}
        return ChatRow(
            id=completion["id"],
            model=completion["model"],
            requested_model=str(self.request.get("model")),
            created_at=completion["created"],
            body={**cast(JsonObject, completion), **extra},
            messages=tuple(messages) if isinstance(messages, list) else (),
            metadata=self.metadata,
            project=self.project,
        )

    def _value(self, name: str) -> JsonValue:
        given = self.request.get(name)
        return DEFAULTS.get(name) if given is None else given


def storage_for(request: Request, context: Context, chat: Chat, body: JsonObject) -> ChatStorage | None:
    """Where to keep the completion of `body`, the chat as sent; None: nowhere.

    Raises InvalidRequest for more metadata than the setting allows, and PermissionDenied for a key that may only read.
    """
    if not chat.store:
        return None
    check_metadata(chat.metadata, context.settings)
    state = request.state
    demand_allowed(state.key, STORES, request.method, request.url.path)
    return ChatStorage(context, state.request_id, state.key.project, body, chat.metadata or {})
