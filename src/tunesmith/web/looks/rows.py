"""The texts of some rows of a file, as they stand there."""

from pathlib import Path
from typing import cast

import orjson

from tunesmith.check.report.mask_preview import visible
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.rows.parse import BrokenLine
from tunesmith.rows.raw_row import RawRow, iter_lines
from tunesmith.web.looks.marks import marked

TURN_CHARS = 900
MOST_TURNS = 12


def rows(values: JsonObject) -> JsonObject:
    """The texts of some rows.

    Those of `places` ([line, path] each) have the place marked, those of `lines` are turns.
    """
    places = [(int(str(line)), str(path)) for line, path in cast(list[list[JsonValue]], values.get("places", []))]
    lines = [int(str(line)) for line in cast(list[JsonValue], values.get("lines", []))]
    texts = {raw.line: raw for raw in iter_lines(Path(str(values["path"])), {*lines, *(line for line, _ in places)})}
    return {
        "places": [_place(texts.get(line), path) for line, path in places],
        "rows": {str(line): _turns(texts[line]) for line in lines if line in texts},
    }


def _place(raw: RawRow | None, path: str) -> JsonValue:
    if raw is None or raw.text is None:
        return None
    return marked(raw.text.decode("utf-8", "replace"), path).to_json()


def _turns(raw: RawRow) -> JsonValue:
    """The row as [who, text] pairs: a conversation's messages, or the keys of another row."""
    try:
        value = raw.value()
    except BrokenLine:
        return [["", _shortened((raw.text or b"").decode("utf-8", "replace"))]]
    if isinstance(value, dict) and isinstance(value.get("messages"), list):
        messages = cast(list[JsonValue], value["messages"])
        return [_turn(one) for one in messages[:MOST_TURNS]]
    pairs = value.items() if isinstance(value, dict) else [("", value)]
    return [[_shortened(str(key)), _shortened(_spelled(part))] for key, part in [*pairs][:MOST_TURNS]]


def _turn(message: JsonValue) -> JsonValue:
    if not isinstance(message, dict):
        return ["", _shortened(_spelled(message))]
    content = message.get("content")
    rest = {key: part for key, part in message.items() if key not in ("role", "content", "weight")}
    said = [_spelled(part) for part in (content, rest) if part not in (None, {})]
    return [_shortened(_spelled(message.get("role", ""))), _shortened("\n".join(said))]


def _spelled(value: JsonValue) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _shortened(text: str) -> str:
    return visible(text if len(text) <= TURN_CHARS else text[:TURN_CHARS] + "…")
