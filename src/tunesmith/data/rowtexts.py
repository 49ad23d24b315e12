"""The countable texts of a sound row, with OpenAI's fixed cost per message and row (see `tokens`)."""

from dataclasses import dataclass, field

import orjson

from tunesmith.data.tokens import PER_EXAMPLE, PER_MESSAGE, PER_NAME
from tunesmith.jsonvalue import JsonObject, JsonValue


@dataclass(slots=True)
class RowTexts:
    """`learned[i]` says whether `texts[i]` is an answer; `first_learned` is the index of the first that is.

    `prompt` and `answer` identify the row's question and its last answer, whatever the order of keys in the file.
    """

    texts: list[str] = field(default_factory=list)
    learned: list[bool] = field(default_factory=list)
    roles: list[str] = field(default_factory=list)
    messages: int = 0
    overhead: int = PER_EXAMPLE
    first_learned: int = 0
    overhead_before_answer: int = 0
    system_at: int | None = None  # index of the first system message's text
    prompt: bytes = b""
    answer: bytes = b""


def row_texts(row: JsonObject) -> RowTexts:
    """The texts of a row without errors, of any kind."""
    found = RowTexts()
    if "prompt" in row:
        _add(found, str(row["prompt"]))
        _mark_answer(found)
        _add(found, str(row["completion"]), learned=True)
        found.overhead = 0
        found.prompt, found.answer = found.texts[0].encode(), found.texts[1].encode()
        return found
    source = row["input"] if "messages" not in row else row
    assert isinstance(source, dict)  # noqa: S101  (the row has been checked)
    _add_tools(found, source)
    messages = _list(source["messages"])
    if source is row:
        for message in messages:
            _add_message(found, message, learned=True)
        last = max((i for i, one in enumerate(messages) if one.get("role") == "assistant"), default=len(messages))
        found.prompt, found.answer = _bytes([source.get("tools"), messages[:last]]), _bytes(messages[last:])
    else:
        for message in messages:
            _add_message(found, message, learned=False)
        outputs = [value for key, value in row.items() if key != "input"]
        for output in outputs:
            for message in _list(output):
                _add_message(found, message, learned=True)
        found.prompt, found.answer = _bytes([source.get("tools"), messages]), _bytes(outputs)
    return found


def _add_message(found: RowTexts, message: JsonObject, *, learned: bool) -> None:
    role = str(message["role"])
    found.roles.append(role)
    found.messages += 1
    found.overhead += PER_MESSAGE
    _add(found, role)
    if learned and role == "assistant" and message.get("weight") != 0:
        _mark_answer(found)
    else:
        learned = False
    if role in ("system", "developer") and found.system_at is None and message.get("content"):
        found.system_at = len(found.texts)
    for text in _said(message):
        _add(found, text, learned=learned)
    if isinstance(message.get("name"), str):
        found.overhead += PER_NAME
        _add(found, str(message["name"]))


def _said(message: JsonObject) -> list[str]:
    """Everything a message says: content, refusal, and the calls that it makes."""
    content = message.get("content")
    parts = content if isinstance(content, list) else [content, message.get("refusal")]
    said = [str(part.get("text") or part.get("refusal") or "") if isinstance(part, dict) else part for part in parts]
    calls = [call.get("function") for call in _list(message.get("tool_calls"))]
    for function in [*calls, message.get("function_call")]:
        if isinstance(function, dict):
            said += [str(function.get("name")), str(function.get("arguments"))]
    return [text for text in said if isinstance(text, str)]


def _add_tools(found: RowTexts, source: JsonObject) -> None:
    for key in ("tools", "functions"):
        for tool in _list(source.get(key)):
            _add(found, _bytes(tool.get("function", tool)).decode())


def _add(found: RowTexts, text: str, *, learned: bool = False) -> None:
    found.texts.append(text)
    found.learned.append(learned)


def _mark_answer(found: RowTexts) -> None:
    if not found.first_learned:
        found.first_learned = len(found.texts)
        found.overhead_before_answer = found.overhead


def _list(value: JsonValue) -> list[JsonObject]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _bytes(value: object) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
