"""Stored completions: those of chats that were sent with `store: true`.

GET /v1/chat/completions and the paths below it. Source of the shapes: OpenAI's description.
"""

from typing import Annotated, cast

from fastapi import APIRouter, Body, Query

from tunesmith.api.http.body import JsonRoute
from tunesmith.api.http.context import Context, ContextDep
from tunesmith.api.http.json_answers import JSONAnswer
from tunesmith.api.http.paging import After, Limit, MetadataFilter, Order, id_listing
from tunesmith.api.http.rules import rule
from tunesmith.api.middleware.body_limits import check_metadata
from tunesmith.errors import NotFound
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.store import ChatRow
from tunesmith.wire.chat.answers import StoredCompletion, StoredMessage
from tunesmith.wire.chat.bodies import UpdateChat
from tunesmith.wire.lists import deleted

router = APIRouter(prefix="/v1/chat/completions", tags=["chat"], route_class=JsonRoute)

KEYS = (  # in the wire's order; `metadata` may have changed since
    "object",
    "id",
    "model",
    "created",
    "request_id",
    "tool_choice",
    "usage",
    "seed",
    "top_p",
    "temperature",
    "presence_penalty",
    "frequency_penalty",
    "system_fingerprint",
    "input_user",
    "service_tier",
    "tools",
    "metadata",
    "choices",
    "response_format",
)
PASSED_ON = ("tool_calls", "tool_call_id", "function_call")  # of a message, where it has them


@router.get("")
@rule("read-only")
def list_chats(
    context: ContextDep,
    after: After,
    metadata: MetadataFilter,
    model: Annotated[str | None, Query(description="The model that answered, or the name that was asked for.")] = None,
    limit: Limit = 20,
    order: Order = "desc",
) -> JSONAnswer:
    """Newest first, as OpenAI answers, though its description says oldest."""
    rows = context.store.chats.page(model=model, metadata=dict(metadata or {}), limit=limit, after=after, order=order)
    return JSONAnswer(id_listing([chat_json(row) for row in rows.data], rows.has_more))


@router.get("/{completion_id}")
@rule("read-only")
def retrieve_chat(completion_id: str, context: ContextDep) -> JSONAnswer:
    """One stored completion."""
    return JSONAnswer(chat_json(_find(context, completion_id)))


@router.post("/{completion_id}")
@rule("member")
def update_chat(completion_id: str, request: Annotated[UpdateChat, Body()], context: ContextDep) -> JSONAnswer:
    """Replaces the metadata of a stored completion."""
    check_metadata(request.metadata, context.settings)
    row = context.store.chats.set_metadata(completion_id, request.metadata or {})
    if row is None:
        raise _not_found(completion_id)
    return JSONAnswer(chat_json(row))


@router.delete("/{completion_id}")
@rule("member")
def delete_chat(completion_id: str, context: ContextDep) -> JSONAnswer:
    """Deletes a stored completion."""
    if not context.store.chats.delete(completion_id):
        raise _not_found(completion_id)
    return JSONAnswer(deleted(completion_id, "chat.completion.deleted"))


@router.get("/{completion_id}/messages")
@rule("read-only")
def list_chat_messages(
    completion_id: str,
    context: ContextDep,
    after: After,
    limit: Limit = 20,
    order: Order = "asc",
) -> JSONAnswer:
    """The messages that were asked, in their order."""
    row = _find(context, completion_id)
    messages = [_message(f"{row.id}-{number}", value) for number, value in enumerate(row.messages)]
    if order == "desc":
        messages.reverse()
    if after is not None:
        ids = [message["id"] for message in messages]
        messages = messages[ids.index(after) + 1 :] if after in ids else []
    return JSONAnswer(id_listing(messages[:limit], len(messages) > limit))


def chat_json(row: ChatRow) -> StoredCompletion:
    """The completion with every key, in the wire's order.

    A key that did not exist yet when it was stored is null.
    """
    metadata: JsonObject = dict(row.metadata)
    body = {**row.body, "metadata": metadata}
    return cast(StoredCompletion, {name: body.get(name) for name in KEYS})


def _message(message_id: str, value: JsonValue) -> StoredMessage:
    """`content_parts` has what came in parts; then there is no `content`."""
    message = value if isinstance(value, dict) else {}
    content = message.get("content")
    in_parts = isinstance(content, list)
    shown = {
        "id": message_id,
        "role": message.get("role"),
        "content": None if in_parts else content,
        "name": message.get("name"),
        "refusal": message.get("refusal"),
        "content_parts": content if in_parts else None,
        **{name: message[name] for name in PASSED_ON if message.get(name) is not None},
    }
    return cast(StoredMessage, shown)


def _find(context: Context, completion_id: str) -> ChatRow:
    row = context.store.chats.get(completion_id)
    if row is None:
        raise _not_found(completion_id)
    return row


def _not_found(completion_id: str) -> NotFound:
    return NotFound(f"Completion {completion_id} not found", param="completion_id", code="not_found")
