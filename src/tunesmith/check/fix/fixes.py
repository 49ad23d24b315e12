"""The safe fixes of one row: they change how a row is written, never what it says.

Applying them twice changes nothing more.
"""

from collections.abc import Callable
from difflib import get_close_matches

import orjson

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.rows.message_faults import KEYS as MESSAGE_KEYS
from tunesmith.rows.other_shapes.recognise import CARRIERS
from tunesmith.rows.other_shapes.turns import role_of
from tunesmith.rows.row_faults import CHAT_KEYS, PREFERENCE_KEYS, ROW_KEYS, Kind

OLD_KEYS = {"preferred_completion": "preferred_output", "non_preferred_completion": "non_preferred_output"}
SPELLING = 0.8  # how alike two keys are when one is taken for the other misspelt

Fix = Callable[[JsonObject], bool]


def fix_row(row: JsonObject) -> list[str]:
    """Changes `row` in place and returns the names of the fixes that changed it."""
    return [name for name, fix in FIXES.items() if fix(row)]


def drop_metadata(row: JsonObject, kind: Kind | None) -> list[str]:
    """Removes the keys that have no place in a row, and returns their names.

    They teach nothing, such as `id` or `source`.

    A key that may be one of ours misspelt stays, and so does one that belongs to what the row teaches (`CARRIERS`).
    """
    source = row.get("input")
    if kind == "chat" and any(_is_answer(one) for one in _messages(row)):
        holders = [("", row, ROW_KEYS)]
    elif kind == "completion":
        holders = [("", row, frozenset(("prompt", "completion")))]
    elif kind == "preference":
        holders = [("", row, PREFERENCE_KEYS)]
        holders += [("input.", source, CHAT_KEYS)] if isinstance(source, dict) else []
    else:
        return []
    dropped = []
    for prefix, holder, known in [*holders, *(("messages.", one, MESSAGE_KEYS) for one in _messages(row))]:
        for key in [key for key in holder if key not in known and _is_metadata(key, holder, known)]:
            del holder[key]
            dropped.append(prefix + key)
    return list(dict.fromkeys(dropped))


def _is_metadata(key: str, holder: JsonObject, known: frozenset[str]) -> bool:
    if key in CARRIERS and holder[key] not in (None, "", [], {}):
        return False
    missing = [name for name in known if name not in holder]
    return not get_close_matches(key, missing, 1, SPELLING)


def _is_answer(message: JsonObject) -> bool:
    return message.get("role") == "assistant"


def is_empty(row: JsonValue) -> bool:
    """Whether a row holds nothing to learn.

    That is no keys, no messages, or nothing but blank answers.
    """
    if row is None or row in ({}, []):
        return True
    if not isinstance(row, dict) or "messages" not in row:
        return False
    messages = row["messages"]
    if not isinstance(messages, list):
        return messages is None
    answers = [one for one in _objects(messages) if one.get("role") == "assistant"]
    return not messages or (bool(answers) and len(row) == 1 and all(_has_no_text(one) for one in answers))


def _old_keys(row: JsonObject) -> bool:
    """The older spelling of preference rows."""
    changed = False
    for old, new in OLD_KEYS.items():
        if old in row and new not in row:
            row[new] = row.pop(old)
            changed = True
    return changed


def _old_roles(row: JsonObject) -> bool:
    changed = False
    for message in _messages(row):
        if (role := role_of(message.get("role"))) != message.get("role"):
            message["role"] = role
            changed = True
    return changed


def _trailing_blanks(row: JsonObject) -> bool:
    changed = False
    for message in _messages(row):
        content = message.get("content")
        if isinstance(content, str) and content != content.rstrip() and content.strip():
            message["content"] = content.rstrip()
            changed = True
    return changed


def _empty_system(row: JsonObject) -> bool:
    changed = False
    for holder in (row, row.get("input")):
        messages = holder.get("messages") if isinstance(holder, dict) else None
        if isinstance(holder, dict) and isinstance(messages, list):
            kept = [one for one in messages if not (_is_system(one) and _has_no_text(one))]
            changed = changed or len(kept) < len(messages)
            holder["messages"] = kept
    return changed


def _weights(row: JsonObject) -> bool:
    """A weight where none is read, and 1.0, "1" or true for 1."""
    changed = False
    for message in _messages(row):
        weight = message.get("weight")
        if "weight" in message and message.get("role") in ("system", "developer", "user", "tool", "function"):
            del message["weight"]
            changed = True
        elif (meant := _meant_weight(weight)) is not None:
            message["weight"] = meant
            changed = True
    return changed


def _meant_weight(weight: JsonValue) -> int | None:
    """The number that a weight of another type stands for; None for a number, and for what stands for none."""
    if isinstance(weight, str):
        return {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}.get(weight.strip().lower())
    return int(weight) if isinstance(weight, bool | float) and weight in (0, 1) else None


def _arguments(row: JsonObject) -> bool:
    """Arguments that are an object become its JSON text."""
    changed = False
    for message in _messages(row):
        calls = message.get("tool_calls")
        functions = [call.get("function") for call in _objects(calls)] if isinstance(calls, list) else []
        for function in (*functions, message.get("function_call")):
            if isinstance(function, dict) and isinstance(function.get("arguments"), dict):
                function["arguments"] = orjson.dumps(function["arguments"]).decode()
                changed = True
    return changed


FIXES: dict[str, Fix] = {
    "renamed old keys": _old_keys,
    "renamed old roles": _old_roles,
    "cut trailing blanks": _trailing_blanks,
    "removed empty system messages": _empty_system,
    "corrected weights": _weights,
    "wrote call arguments as text": _arguments,
}


def _messages(row: JsonObject) -> list[JsonObject]:
    """Every message of the row, of whatever kind it is."""
    source = row.get("input")
    found: list[JsonObject] = []
    for holder in (row, source if isinstance(source, dict) else {}):
        for key in ("messages", "preferred_output", "non_preferred_output"):
            value = holder.get(key)
            found += _objects(value) if isinstance(value, list) else []
    return found


def _objects(values: list[JsonValue]) -> list[JsonObject]:
    return [value for value in values if isinstance(value, dict)]


def _is_system(message: JsonValue) -> bool:
    return isinstance(message, dict) and message.get("role") in ("system", "developer")


def _has_no_text(message: JsonValue) -> bool:
    if not isinstance(message, dict):
        return False
    content = message.get("content")
    blank = content is None or (isinstance(content, str) and not content.strip())
    return blank and not any(message.get(key) for key in ("tool_calls", "function_call", "refusal"))
