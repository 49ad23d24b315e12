"""The safe fixes of one row: they change how a row is written, never what it says.

Applying them twice changes nothing more.
"""

from collections.abc import Callable

import orjson

from tunesmith.jsonvalue import JsonObject, JsonValue

OLD_KEYS = {"preferred_completion": "preferred_output", "non_preferred_completion": "non_preferred_output"}
OLD_ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "ai": "assistant", "model": "assistant"}

Fix = Callable[[JsonObject], bool]


def fix_row(row: JsonObject) -> list[str]:
    """Changes `row` in place and returns the names of the fixes that changed it."""
    return [name for name, fix in FIXES.items() if fix(row)]


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
    """The older spelling of preference rows, and rows as ShareGPT writes them."""
    changed = False
    for old, new in OLD_KEYS.items():
        if old in row and new not in row:
            row[new] = row.pop(old)
            changed = True
    turns = row.get("conversations")
    if "messages" not in row and isinstance(turns, list) and turns and all(_is_turn(turn) for turn in turns):
        row["messages"] = [{"role": turn["from"], "content": turn["value"]} for turn in _objects(turns)]
        del row["conversations"]
        changed = True
    return changed


def _old_roles(row: JsonObject) -> bool:
    changed = False
    for message in _messages(row):
        role = message.get("role")
        if isinstance(role, str) and role in OLD_ROLES:
            message["role"] = OLD_ROLES[role]
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
    """A weight where none is read, and 1.0 for 1."""
    changed = False
    for message in _messages(row):
        weight = message.get("weight")
        if "weight" in message and message.get("role") in ("system", "developer", "user", "tool", "function"):
            del message["weight"]
            changed = True
        elif isinstance(weight, float) and weight in (0.0, 1.0):
            message["weight"] = int(weight)
            changed = True
    return changed


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


def _is_turn(turn: JsonValue) -> bool:
    return isinstance(turn, dict) and turn.keys() == {"from", "value"}


def _is_system(message: JsonValue) -> bool:
    return isinstance(message, dict) and message.get("role") in ("system", "developer")


def _has_no_text(message: JsonValue) -> bool:
    if not isinstance(message, dict):
        return False
    content = message.get("content")
    blank = content is None or (isinstance(content, str) and not content.strip())
    return blank and not any(message.get(key) for key in ("tool_calls", "function_call", "refusal"))
