"""The form of a row: all that decides, besides its texts, how a base renders it.

A chat template sees roles, not contents (`render.chat_template`): of those at most whether they think. So one specimen
of each form tells whether a base can render every row of that form, and what the template adds to the rows' own tokens;
the rows need not be read again.
"""

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.rows.messages import Message, Tool
from tunesmith.rows.row import ChatRow, CompletionRow, PreferenceRow, Row
from tunesmith.rows.row_faults import kind_of

MAX_FORMS = 500  # of a file; beyond it, its rows are read again one by one
COMPLETION = "completion"

REASONED = "~"  # after a role: it has reasoning_content
_NO_WEIGHT, _BLANK = "-", "_"  # after a role: weight 0; a text without content
_OUTPUT_KEYS = ("preferred_output", "preferred_completion", "non_preferred_output", "non_preferred_completion")


def chat_form(roles: tuple[str, ...]) -> str:
    """The form of a chat row whose messages have a role, a text and nothing else."""
    return "chat|" + "|".join(roles)


def form_of(row: JsonObject) -> str | None:
    """The form of a row without errors.

    None for one that has to be rendered itself (reinforcement).
    """
    kind = kind_of(row)
    if kind == "completion":
        return COMPLETION
    if kind == "chat":
        return "|".join([_named("chat", row), *map(_message, _messages(row["messages"]))])
    source = row.get("input")
    if kind != "preference" or not isinstance(source, dict):
        return None
    outputs = [_message(one) for key in _OUTPUT_KEYS for one in _messages(row.get(key))]
    return "|".join([_named("preference", source), *map(_message, _messages(source.get("messages"))), *outputs])


def specimen(form: str) -> Row:
    """A row of this form whose every text is one letter."""
    if form == COMPLETION:
        return CompletionRow("x", "x")
    name, *marked = form.split("|")
    messages = tuple(_specimen_message(mark) for mark in marked)
    tools = (Tool("x"),) if name.endswith("+tools") else ()
    if name.startswith("chat"):
        return ChatRow(messages, tools)
    return PreferenceRow(messages[:-2], messages[-2:-1], messages[-1:], tools)


def _named(kind: str, source: JsonObject) -> str:
    return f"{kind}+tools" if source.get("tools") or source.get("functions") else kind


def _message(message: JsonObject) -> str:
    content = message.get("content")
    blank = not any(message.get(key) for key in ("tool_calls", "function_call", "refusal")) and (
        isinstance(content, str) and not content.strip()
    )
    weight = _NO_WEIGHT if message.get("weight") == 0 else ""
    reasoned = REASONED if message.get("reasoning_content") else ""
    return f"{message['role']}{weight}{_BLANK if blank else ''}{reasoned}"


def _specimen_message(mark: str) -> Message:
    reasoning = "x" if mark.endswith(REASONED) else None
    mark = mark.removesuffix(REASONED)
    content = "" if mark.endswith(_BLANK) else "x"
    role = mark.removesuffix(_BLANK)
    weight = 0 if role.endswith(_NO_WEIGHT) else None
    return Message(role.removesuffix(_NO_WEIGHT), content, weight=weight, reasoning_content=reasoning)


def _messages(value: JsonValue) -> list[JsonObject]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
