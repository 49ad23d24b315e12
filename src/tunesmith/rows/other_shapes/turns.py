"""Turns of a conversation in other spellings, as messages.

ShareGPT's `from` and `value`, Vertex' `author`, Gemini's `parts`, Anthropic's blocks of tool calls and results.
"""

from collections.abc import Sequence

import orjson

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.rows.other_shapes.lost_text import is_lost
from tunesmith.rows.other_shapes.result import UnclearShapeError
from tunesmith.rows.other_shapes.tools import json_text

ROLE_KEYS = ("role", "from", "author", "speaker", "sender")
TEXT_KEYS = ("content", "value", "text", "message", "parts")
# Any capitals. Roles of ours stand here too, as "Assistant" and " user" are meant by them.
ROLES = {
    **dict.fromkeys(("user", "human", "prompter", "customer"), "user"),
    **dict.fromkeys(
        ("assistant", "gpt", "bot", "ai", "model", "chatbot", "chatgpt", "assistent", "agent"), "assistant"
    ),
    **dict.fromkeys(("system", "developer", "tool", "function"), ""),  # "": themselves
    **dict.fromkeys(("observation", "function_response", "tool_response", "tool_result"), "tool"),
}
_OURS = frozenset(("user", "assistant", "system", "developer", "tool", "function"))  # looked up first: the common case
CALL_ROLES = ("function_call", "tool_call")
KEPT = ("name", "weight", "tool_calls", "tool_call_id", "function_call", "refusal")
_LEARNED = ("train", "training", "trainable", "loss")  # a flag that other tools have for our weight
_CARRIERS = ("reasoning_content", "reasoning", "thinking", "images", "image", "audio", "video", "files")
_CALLS = ("functionCall", "function_call")
_RESULTS = ("functionResponse", "function_response")


def role_of(role: JsonValue) -> JsonValue:
    """The role of ours that is meant, or `role` itself."""
    if not isinstance(role, str) or role in _OURS:
        return role
    plain = role.strip().lower()
    return ROLES.get(plain, role) or plain


def is_turn(value: JsonValue) -> bool:
    """Whether a value is one turn of a conversation, in whatever spelling."""
    if not isinstance(value, dict) or _key(value, ROLE_KEYS) is None:
        return False
    return _key(value, TEXT_KEYS) is not None or "tool_calls" in value or "function_call" in value


def are_turns(value: JsonValue) -> bool:
    """Whether a value is a list of turns."""
    return isinstance(value, list) and bool(value) and all(map(is_turn, value))


def is_odd_turn(value: JsonValue) -> bool:
    """Whether a turn is spelled in another tool's way; a role's capitals aside."""
    if not is_turn(value) or not isinstance(value, dict):
        return False
    if "role" not in value or (role_of(value["role"]) != "tool" and _role_text(value["role"]) in CALL_ROLES):
        return True
    content = value.get("content")
    if "content" not in value:
        return "tool_calls" not in value and "function_call" not in value
    return isinstance(content, dict) or (isinstance(content, list) and any(map(_is_odd_part, content)))


def messages_of(value: JsonValue) -> tuple[list[JsonValue], tuple[str, ...]]:
    """The messages that a list of turns means, and the keys that have no place."""
    conversation = _Conversation()
    for turn in value if isinstance(value, list) else []:
        if isinstance(turn, dict):
            conversation.add(turn)
    return conversation.messages, tuple(dict.fromkeys(conversation.dropped))


def text_of(value: JsonValue) -> str | None:
    """A text, or the texts of parts joined; None for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and "parts" in value:
        value = value["parts"]
    parts = [value] if isinstance(value, dict) else value
    if not isinstance(parts, list):
        return None
    texts = [_part_text(part) for part in parts]
    return None if None in texts else "".join(text for text in texts if text is not None)


class _Conversation:
    """Messages as they are added; calls wait here for the results that answer them."""

    def __init__(self) -> None:
        self.messages: list[JsonValue] = []
        self.dropped: list[str] = []
        self._calls = 0
        self._waiting: list[tuple[str, str]] = []  # id and name

    def add(self, turn: JsonObject) -> None:
        role_key, text_key = _key(turn, ROLE_KEYS), _key(turn, TEXT_KEYS)
        role = turn[role_key] if role_key else None
        content = turn[text_key] if text_key else None
        rest = self._rest(turn, role_key, text_key)
        if _role_text(role) in CALL_ROLES:
            self.messages.append({"role": "assistant", "content": None, "tool_calls": self._calls_in(content)})
        elif isinstance(content, list | dict):
            self._add_parts(role_of(role), content, rest)
        else:
            self._add_text(role_of(role), content, rest, has_content=text_key is not None)

    def _add_text(self, role: JsonValue, content: JsonValue, rest: JsonObject, *, has_content: bool) -> None:
        if role == "tool" and "tool_call_id" not in rest and self._waiting:
            rest["tool_call_id"] = self._answered(None, None)
        if role == "assistant" and isinstance(calls := rest.get("tool_calls"), list):
            known = [(one.get("id"), one.get("function")) for one in calls if isinstance(one, dict)]
            self._waiting = [(number, _name(function)) for number, function in known if isinstance(number, str)]
        self.messages.append({"role": role, **({"content": content} if has_content else {}), **rest})

    def _add_parts(self, role: JsonValue, content: "list[JsonValue] | JsonObject", rest: JsonObject) -> None:
        parts = content.get("parts", [content]) if isinstance(content, dict) else content
        texts: list[str] = []
        calls: list[JsonValue] = []
        results: list[JsonValue] = []
        for part in parts if isinstance(parts, list) else [parts]:
            if (text := _part_text(part)) is not None:
                texts.append(text)
            elif (call := _part_call(part)) is not None:
                calls.append(self._call(*call))
            elif (result := _part_result(part)) is not None:
                call_id, name, said = result
                results.append({"role": "tool", "tool_call_id": self._answered(call_id, name), "content": said})
            else:
                raise UnclearShapeError(
                    f"A content part is {_kind(part)}: only text and calls of tools can be trained."
                )
        self.messages += results
        if calls:
            self.messages.append({"role": role, "content": "".join(texts) or None, "tool_calls": calls, **rest})
        elif texts or not results:
            self.messages.append({"role": role, "content": "".join(texts), **rest})

    def _rest(self, turn: JsonObject, role_key: str | None, text_key: str | None) -> JsonObject:
        rest: JsonObject = {}
        for key, value in turn.items():
            if key in (role_key, text_key):
                continue
            if key in KEPT:
                rest[key] = value
            elif key in _LEARNED and isinstance(value, bool | int) and value in (0, 1):
                rest["weight"] = int(value)
            elif key in _CARRIERS and value:
                raise UnclearShapeError(f'A message has "{key}", which has no place in a training row here.')
            elif is_lost(key, value, [held for name, held in turn.items() if name != key]):
                raise UnclearShapeError(f'A message also has "{key}", with text that is not in its content.')
            elif value not in (None, [], {}, ""):
                self.dropped.append(f"{key} of a message")
        return rest

    def _calls_in(self, content: JsonValue) -> list[JsonValue]:
        said = json_text(content) if isinstance(content, str) else content
        calls = said if isinstance(said, list) else [said]
        found: list[JsonValue] = []
        for call in calls:
            if not isinstance(call, dict) or not isinstance(call.get("name"), str):
                raise UnclearShapeError("A call of a tool is not JSON with a name and arguments.")
            found.append(self._call(None, str(call["name"]), call.get("arguments", call.get("parameters", {}))))
        return found

    def _call(self, call_id: str | None, name: str, arguments: JsonValue) -> JsonObject:
        self._calls += 1
        call_id = call_id or f"call_{self._calls}"
        self._waiting.append((call_id, name))
        text = arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
        return {"id": call_id, "type": "function", "function": {"name": name, "arguments": text}}

    def _answered(self, call_id: str | None, name: str | None) -> str:
        """The id of the call that a result answers: by its id, by its name, or the first that waits."""
        for at, (waiting_id, waiting_name) in enumerate(self._waiting):
            if call_id in (None, waiting_id) and name in (None, waiting_name):
                del self._waiting[at]
                return waiting_id
        if call_id is None:
            raise UnclearShapeError("A tool's result answers no call before it.")
        return call_id


def _key(turn: JsonObject, keys: Sequence[str]) -> str | None:
    return next((key for key in keys if key in turn), None)


def _role_text(role: JsonValue) -> str:
    return role.strip().lower() if isinstance(role, str) else ""


def _name(function: JsonValue) -> str:
    return str(function.get("name")) if isinstance(function, dict) else ""


def _kind(part: JsonValue) -> str:
    if not isinstance(part, dict):
        return "not an object"
    return (
        f"of type '{part['type']}'" if isinstance(part.get("type"), str) else f"one with {', '.join(part) or 'no keys'}"
    )


def _is_odd_part(part: JsonValue) -> bool:
    if isinstance(part, str) or (isinstance(part, dict) and "type" not in part and isinstance(part.get("text"), str)):
        return True
    return _part_call(part) is not None or _part_result(part) is not None


def _part_text(part: JsonValue) -> str | None:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict) or part.get("type", "text") not in ("text", "input_text", "output_text"):
        return None
    text = part.get("text")
    return text if isinstance(text, str) else None


def _part_call(part: JsonValue) -> tuple[str | None, str, JsonValue] | None:
    if not isinstance(part, dict):
        return None
    if part.get("type") == "tool_use" and isinstance(part.get("name"), str):
        number = part.get("id")
        return number if isinstance(number, str) else None, str(part["name"]), part.get("input", {})
    call = next((part[key] for key in _CALLS if key in part), None)
    if isinstance(call, dict) and isinstance(call.get("name"), str):
        return None, str(call["name"]), call.get("args", {})
    return None


def _part_result(part: JsonValue) -> tuple[str | None, str | None, str] | None:
    if not isinstance(part, dict):
        return None
    if part.get("type") == "tool_result" and isinstance(part.get("tool_use_id"), str):
        return str(part["tool_use_id"]), None, _said(part.get("content", ""))
    result = next((part[key] for key in _RESULTS if key in part), None)
    if isinstance(result, dict) and isinstance(result.get("name"), str):
        return None, str(result["name"]), _said(result.get("response", ""))
    return None


def _said(value: JsonValue) -> str:
    text = text_of(value) if isinstance(value, str | list) else None
    return orjson.dumps(value).decode() if text is None else text
