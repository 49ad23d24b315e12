"""The rows of a run, from wherever its `source` says.

Counted and bounded before anything costly. They stand in the request, in an uploaded file, or among the project's
stored chat completions.
"""

from collections.abc import Iterator
from typing import cast

import orjson

from tunesmith.api.evals.plans import DATA, kind_of_data
from tunesmith.api.http.context import Context
from tunesmith.errors import InvalidRequest, NotFound
from tunesmith.evals.runs.schema import check_item, read_schema
from tunesmith.jsonvalue import JsonObject, JsonValue, exact_json
from tunesmith.store import ChatRow
from tunesmith.store.evals.rows import EvalRow, RunItem
from tunesmith.wire.body import read
from tunesmith.wire.evals.bodies import ContentRow, ContentSource, FileSource, StoredSource
from tunesmith.wire.faults import unsupported

PARAM = f"{DATA}.source"
KINDS = ("file_content", "file_id", "stored_completions", "responses")
MAX_BYTES = 64 * 1024 * 1024  # of the rows of a run
MAX_ROW = 1024 * 1024  # bytes of one
CHAT_PAGE = 100
NO_RESPONSES = (
    "it keeps no responses. Let an eval of the kind logs read stored completions (chats asked with store=true), or "
    "send the rows themselves: file_content or file_id."
)


def read_rows(context: Context, row: EvalRow, data_source: JsonObject) -> list[RunItem]:
    """The rows of a run.

    Raises InvalidRequest and NotFound that say which row, and what to do.
    """
    source = data_source.get("source")
    kinds = KINDS[:2] if data_source.get("type") == "jsonl" else KINDS
    kind = kind_of_data(source, PARAM, kinds)
    match kind:
        case "file_content":
            content = read(ContentSource, source, PARAM).content
            _check_count(context, len(content))
            rows = [_run_item(one) for one in content]
        case "file_id":
            rows = list(_of_file(context, read(FileSource, source, PARAM).id))
        case "stored_completions":
            rows = list(_stored(context, row, read(StoredSource, source, PARAM)))
        case _:
            raise unsupported(f"{PARAM}.type", NO_RESPONSES)
    if not rows:
        raise InvalidRequest(f"The source has no rows: there is nothing to run. - '{PARAM}'", param=PARAM)
    _check_items(row, rows)
    return rows


def _check_count(context: Context, count: int) -> None:
    most = context.settings.eval_rows
    if count > most:
        message = f"The source has more than {most:,} rows, the most of a run (setting eval_rows). Make several runs."
        raise InvalidRequest(message, param=PARAM, code="too_many_rows")


def _check_items(row: EvalRow, rows: list[RunItem]) -> None:
    """Raises InvalidRequest for the first row that does not follow the eval's schema."""
    config = row.data_source_config
    if config.get("type") != "custom":
        return
    properties = cast(JsonObject, cast(JsonObject, config["schema"])["properties"])
    schema = read_schema(cast(JsonObject, properties["item"]))
    for number, one in enumerate(rows):
        check_item(one.item, schema, f"Row {number + 1}")


def _run_item(row: ContentRow) -> RunItem:
    return RunItem(cast(JsonObject, row.item), cast(JsonObject | None, row.sample))


def _of_file(context: Context, file_id: str) -> Iterator[RunItem]:
    row = context.store.files.get(file_id)
    if row is None:
        raise NotFound(f"No such File object: {file_id}", param=f"{PARAM}.id")
    if row.bytes > MAX_BYTES:
        message = f"The file has {row.bytes:,} bytes; a run reads at most {MAX_BYTES:,}. Split it. - '{PARAM}.id'"
        raise InvalidRequest(message, param=f"{PARAM}.id", code="file_too_large")
    count = 0
    with context.store.files.local_copy(row.id).open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            count += 1
            _check_count(context, count)
            yield _run_item(read(ContentRow, _parsed(line, row.filename, number), f"{row.filename} line {number}"))


def _parsed(line: bytes, name: str, number: int) -> JsonValue:
    if len(line) > MAX_ROW:
        raise InvalidRequest(f"{name} line {number} has more than {MAX_ROW:,} bytes; shorten it.", param=f"{PARAM}.id")
    try:
        value = exact_json(line.removeprefix(b"\xef\xbb\xbf"))
    except (ValueError, RecursionError) as error:
        message = f'{name} line {number} is not JSON ({error}); each line is an object {{"item": {{...}}}}.'
        raise InvalidRequest(message, param=f"{PARAM}.id", code="invalid_file") from error
    return value


def _stored(context: Context, row: EvalRow, source: StoredSource) -> Iterator[RunItem]:
    """Oldest first; metadata that neither names is not looked at."""
    own = cast(JsonObject, row.data_source_config.get("metadata") or {})
    wanted = {**own, **cast(JsonObject, source.metadata or {})}
    pairs = {name: value if isinstance(value, str) else orjson.dumps(value).decode() for name, value in wanted.items()}
    after, more, count, size = None, True, 0, 0
    while more:
        page = context.store.chats.page(model=source.model, metadata=pairs, limit=CHAT_PAGE, after=after, order="asc")
        for chat in page.data:
            if source.limit is not None and count >= source.limit:
                return
            if _within(chat, source):
                count, item = count + 1, _of_chat(chat)
                size += len(orjson.dumps([item.item, item.given]))
                _check_count(context, count)
                _check_bytes(size)
                yield item
        after, more = page.data[-1].id if page.data else None, page.has_more


def _check_bytes(size: int) -> None:
    if size > MAX_BYTES:
        message = f"The stored completions have more than {MAX_BYTES:,} bytes; set a limit. - '{PARAM}'"
        raise InvalidRequest(message, param=PARAM, code="too_many_rows")


def _within(chat: ChatRow, source: StoredSource) -> bool:
    after, before = source.created_after, source.created_before
    return (after is None or chat.created_at > after) and (before is None or chat.created_at < before)


def _of_chat(chat: ChatRow) -> RunItem:
    choices = chat.body.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    choice = first if isinstance(first, dict) else {}
    metadata: JsonObject = dict(chat.metadata)
    item: JsonObject = {
        "id": chat.id,
        "input": list(chat.messages),
        "output": [choice.get("message")],
        "model": chat.model,
        "metadata": metadata,
    }
    given: JsonObject = {
        "choices": [choice],
        "model": chat.model,
        "finish_reason": choice.get("finish_reason"),
    }
    return RunItem(item, given)
