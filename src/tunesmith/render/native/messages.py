"""Messages and tools as a template is given them by transformers' users."""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.render import tool_text
from tunesmith.render.native.guard import Guard
from tunesmith.render.native.habits import Habits
from tunesmith.render.vocabulary import Vocabulary
from tunesmith.rows.messages import FunctionCall, Message, Tool, ToolCall

_SHORT_ID = re.compile(r"[A-Za-z0-9]{9}")


class Speaker:
    """Puts messages into the shape that one template reads."""

    def __init__(self, habits: Habits, template: str, vocabulary: Vocabulary) -> None:
        self._habits = habits
        self._keeps_developer = "developer" in template
        self._marks, self._special_marks = vocabulary.any_mark, vocabulary.special_mark

    def messages(self, messages: Sequence[Message], guard: Guard) -> list[JsonObject]:
        """The messages, with look-alikes of marks hidden.

        What an assistant is said to have written may have those of thinking and of calls.
        """
        names: dict[str | None, str] = {call.id: call.name for one in messages for call in one.tool_calls}
        return [self._message(one, names, guard) for one in messages]

    def tools(self, tools: Sequence[Tool], guard: Guard, *, whole: bool = False) -> list[JsonObject] | None:
        """The declarations; None for none.

        `whole`: with every field that a template may look for.
        """
        return guard.hide([_declaration(tool, whole=whole) for tool in tools]) if tools else None

    def guard(self, messages: Sequence[Message], tools: Sequence[Tool]) -> Guard:
        """The guard of one conversation."""
        return Guard(_texts(messages, tools), self._marks)

    def _message(self, message: Message, names: dict[str | None, str], guard: Guard) -> JsonObject:
        match message.role:
            case "assistant":
                return self._assistant(message, guard)
            case "tool" | "function":
                return self._result(message, names, guard)
            case "developer" if not self._keeps_developer:
                return {"role": "system", "content": guard.hide(message.content or "")}
            case role:
                text = message.content or ""
                return {"role": role, "content": guard.hide(tool_text.without_result_tags(text))}

    def _assistant(self, message: Message, guard: Guard) -> JsonObject:
        text = message.content if message.content is not None else message.refusal or ""
        calls: list[ToolCall | FunctionCall] = [*message.tool_calls]
        if message.function_call is not None:
            calls.append(message.function_call)
        if calls and not self._habits.calls:
            text, calls = tool_text.assistant_text(message), []
        said: JsonObject = {"role": "assistant", "content": guard.hide(text, self._special_marks)}
        if message.reasoning_content is not None:
            thought = guard.hide(message.reasoning_content, self._special_marks)
            said["reasoning_content"] = thought
            if not (calls and text):  # GPT-OSS' template takes the content beside calls for the thought
                said["thinking"] = thought
        if calls and not text and self._habits.null_content:
            said["content"] = None
        if calls:
            said["tool_calls"] = [self._call(call, guard) for call in calls]
        return said

    def _call(self, call: ToolCall | FunctionCall, guard: Guard) -> JsonObject:
        arguments: JsonValue = call.arguments
        if not self._habits.text_arguments:
            arguments = _as_object(call.arguments)
        function: JsonObject = {"name": guard.hide(call.name), "arguments": guard.hide(arguments)}
        given = call.id if isinstance(call, ToolCall) else call.name
        return {"id": self._id(given, guard), "type": "function", "function": function}

    def _result(self, message: Message, names: dict[str | None, str], guard: Guard) -> JsonObject:
        if not self._habits.results:
            return {"role": "user", "content": guard.hide(tool_text.result_text(message))}
        given = message.tool_call_id if message.role == "tool" else message.name
        content = tool_text.without_result_tags(message.content or "")
        said: JsonObject = {"role": "tool", "content": guard.hide(content)}
        if given is not None:
            said["tool_call_id"] = self._id(given, guard)
        name = message.name
        if name is None and self._habits.named_results:
            name = names.get(message.tool_call_id)
        return said if name is None else {**said, "name": guard.hide(name)}

    def _id(self, given: str, guard: Guard) -> str:
        if not self._habits.short_ids or _SHORT_ID.fullmatch(given):
            return guard.hide(given)
        return given[-9:] if _SHORT_ID.fullmatch(given[-9:]) else hashlib.sha256(given.encode()).hexdigest()[:9]


def _declaration(tool: Tool, *, whole: bool) -> JsonObject:
    function: JsonObject = {"name": tool.name}
    if tool.description is not None or whole:
        function["description"] = tool.description or ""
    if tool.parameters is not None or whole:
        function["parameters"] = tool.parameters or {"type": "object", "properties": {}}
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _as_object(arguments: str) -> JsonValue:
    """The arguments as an object; as they are where they are none."""
    if not arguments.strip():
        return {}
    try:
        value: JsonValue = json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
    return value if isinstance(value, dict) else arguments


def _texts(messages: Sequence[Message], tools: Sequence[Tool]) -> Iterator[str]:
    for one in messages:
        yield from (text for text in (one.content, one.refusal, one.reasoning_content, one.name) if text)
        for call in one.tool_calls:
            yield from (call.id, call.name, call.arguments, _spelled(call.arguments))
        if one.function_call is not None:
            yield from (one.function_call.name, one.function_call.arguments, _spelled(one.function_call.arguments))
        if one.tool_call_id:
            yield one.tool_call_id
    for tool in tools:
        yield tool.name
        yield tool.description or ""
        yield json.dumps(tool.parameters, ensure_ascii=False) if tool.parameters else ""


def _spelled(arguments: str) -> str:
    """Arguments without JSON's escapes, which may hide a mark."""
    if "\\" not in arguments:
        return ""
    return json.dumps(_as_object(arguments), ensure_ascii=False)
