"""The countable texts of a sound row, with OpenAI's fixed costs (see `tokens`)."""

from dataclasses import dataclass, field

import orjson

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.rows.findings import Fault
from tunesmith.rows.shapes import digest, roles_seed, text_digest
from tunesmith.tokens import PER_EXAMPLE, PER_MESSAGE, PER_NAME, PER_ROLE

_PLAIN_KEYS = frozenset(("role", "content", "name", "weight", "tool_call_id"))


@dataclass(slots=True)
class RowTexts:
    """The texts of a row, and where they are.

    `learned[i]` says whether `texts[i]` is an answer, `paths[i]` where it is in the row.

    `prompt` and `answer` are digests of the question and the last answer, whatever the order of keys in the file.
    """

    texts: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    learned: list[bool] = field(default_factory=list)
    roles: list[str] = field(default_factory=list)
    overhead: int = PER_EXAMPLE
    system_at: int = -1
    system: int = 0
    prompt: int = 0
    answer: int = 0
    warnings: tuple[Fault, ...] = ()  # as a `Shape` has them; those of other rows are told elsewhere

    def add(self, text: str, path: str, *, learned: bool = False) -> None:
        """Adds one text."""
        self.texts.append(text)
        self.paths.append(path)
        self.learned.append(learned)


def row_texts(row: JsonObject) -> RowTexts:
    """The texts of a row without errors."""
    found = RowTexts()
    if "messages" in row:
        _conversation(found, row, "")
        _identify(found, row)
    elif "input" in row:
        _preference(found, row)
    else:
        found.overhead = 0
        found.add(str(row["prompt"]), "prompt")
        found.add(str(row["completion"]), "completion", learned=True)
        found.prompt, found.answer = digest([found.texts[0].encode()]), digest([found.texts[1].encode()])
    if not found.texts:  # a message list of calls without text still makes a row
        found.add("", "messages")
    return found


def _conversation(found: RowTexts, row: JsonObject, prefix: str) -> None:
    messages = _list(row["messages"])
    _add_tools(found, row, prefix)
    for index, message in enumerate(messages):
        _add_message(found, message, f"{prefix}messages[{index}]", learned=not prefix)


def _identify(found: RowTexts, row: JsonObject) -> None:
    messages = _list(row["messages"])
    answers = [index for index, one in enumerate(messages) if one.get("role") == "assistant"]
    last = answers[-1] if answers else len(messages)
    found.prompt = _identity(row, messages[:last], messages)
    found.answer = _identity({}, messages[last:], messages)


def _preference(found: RowTexts, row: JsonObject) -> None:
    source = row["input"]
    assert isinstance(source, dict)  # noqa: S101  (the row has been checked)
    _conversation(found, source, "input.")
    messages = _list(source["messages"])
    found.prompt = _identity(source, messages, messages)
    outputs = [(key, _list(value)) for key, value in sorted(row.items()) if key != "input"]
    for key, output in outputs:
        for index, message in enumerate(output):
            _add_message(found, message, f"{key}[{index}]", learned=True)
    found.answer = digest([_canonical(output) for _, output in outputs])


def _identity(row: JsonObject, part: list[JsonObject], whole: list[JsonObject]) -> int:
    """As the fast path has it for messages of role and content alone; of everything otherwise."""
    if not row.get("tools") and not row.get("functions") and all(len(one) == 2 for one in part):
        contents = [one.get("content") for one in part]
        texts = [content.encode() for content in contents if isinstance(content, str)]
        if len(texts) == len(contents):
            return digest(texts, roles_seed(tuple(str(one["role"]) for one in whole)))
    return digest([_canonical([row.get("tools"), row.get("functions"), part])])


def _add_message(found: RowTexts, message: JsonObject, path: str, *, learned: bool) -> None:
    role = str(message["role"])
    found.roles.append(role)
    found.overhead += PER_MESSAGE + PER_ROLE
    learned = learned and role == "assistant" and message.get("weight") != 0
    content = message.get("content")
    if isinstance(content, str) and len(message) == 2:
        if found.system_at < 0 and role in ("system", "developer"):
            found.system_at, found.system = len(found.texts), text_digest(content.encode())
        found.add(content, f"{path}.content", learned=learned)
        return
    said = _said(message)
    if role in ("system", "developer") and found.system_at < 0 and said:
        found.system_at, found.system = len(found.texts), text_digest(said[0][0].encode())
    for text, where in said:
        found.add(text, f"{path}.{where}", learned=learned)
    if isinstance(message.get("name"), str):
        found.overhead += PER_NAME
        found.add(str(message["name"]), f"{path}.name")


def _said(message: JsonObject) -> list[tuple[str, str]]:
    """(text, path) of everything a message says: content, refusal, and the calls that it makes."""
    content = message.get("content")
    if isinstance(content, str) and message.keys() <= _PLAIN_KEYS:
        return [(content, "content")]
    said: list[tuple[JsonValue, str]] = [(message.get(key), key) for key in ("reasoning_content", "content", "refusal")]
    for index, part in enumerate(_list(content)):
        said.append((part.get("text") or part.get("refusal"), f"content[{index}].text"))
    calls = [
        (call.get("function"), f"tool_calls[{i}].function") for i, call in enumerate(_list(message.get("tool_calls")))
    ]
    for function, where in [*calls, (message.get("function_call"), "function_call")]:
        if isinstance(function, dict):
            said += [(function.get("name"), f"{where}.name"), (function.get("arguments"), f"{where}.arguments")]
    return [(text, where) for text, where in said if isinstance(text, str)]


def _add_tools(found: RowTexts, source: JsonObject, prefix: str) -> None:
    for key in ("tools", "functions"):
        for index, tool in enumerate(_list(source.get(key))):
            found.add(_canonical(tool.get("function", tool)).decode(), f"{prefix}{key}[{index}]")


def _list(value: JsonValue) -> list[JsonObject]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _canonical(value: object) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
