"""Faults of one training row of any kind, explained.

This is the slow path; `check.scan` has the fast one.
"""

from collections.abc import Iterator
from typing import Literal, TypeAlias

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.rows.codes import CODES
from tunesmith.rows.findings import Fault, shorten
from tunesmith.rows.message_faults import messages_faults, order_faults, type_name
from tunesmith.rows.other_shapes.recognise import convert
from tunesmith.rows.other_shapes.result import UnclearShapeError
from tunesmith.rows.other_shapes.turns import role_of
from tunesmith.rows.tool_faults import declared, declared_call_faults

Kind: TypeAlias = Literal["chat", "completion", "preference", "reinforcement"]

CHAT_KEYS = frozenset(("messages", "tools", "functions", "parallel_tool_calls"))
NOTES = "metadata"  # of a chat row: where its answer came from, say; not trained
ROW_KEYS = CHAT_KEYS | {NOTES}
PREFERENCE_KEYS = frozenset(
    ("input", "preferred_output", "non_preferred_output", "preferred_completion", "non_preferred_completion")
)
INPUT_KEYS = CHAT_KEYS
_OUTPUT_KEYS = PREFERENCE_KEYS - {"input"}
# Beside the keys of ours they tell that another tool wrote the row (`rows.other_shapes`).
_OTHERS_KEYS = frozenset(("chosen", "rejected", "response", "choices", "instruction", "question", "query", "answer"))
FIX_LATER = (
    "First change what else is wrong with the row; then `tunesmith fix FILE` writes it as rows are written here."
)
_NOT_BESIDE_MESSAGES = _OUTPUT_KEYS | {"chosen", "rejected", "response", "choices", "completion"}


def kind_of(row: JsonValue) -> Kind | None:
    """The kind of a row by its keys; None when it is none of the four."""
    if not isinstance(row, dict):
        return None
    if "messages" in row:
        extra = row.keys() - CHAT_KEYS
        if extra & _NOT_BESIDE_MESSAGES:
            return None
        return "reinforcement" if extra and _ends_with_user(row["messages"]) else "chat"
    if row.keys() & _OUTPUT_KEYS:
        return "preference"
    if row.keys() & _OTHERS_KEYS:
        return None
    if isinstance(row.get("input"), dict) and "output" not in row:
        return "preference"
    texts = [row[key] for key in ("prompt", "completion") if key in row]
    return "completion" if texts and not any(isinstance(text, list) for text in texts) else None


def row_faults(row: JsonValue, kind: Kind | None = None) -> Iterator[Fault]:
    """Every fault of a row.

    `kind` is what the file holds; without it the row is taken for what it looks like. A faulty row that another tool
    wrote is named as such, as its single faults would only mislead.
    """
    found = list(_faults_of(row, kind))
    other = _other_shape(row) if any(CODES[fault.code].severity == "error" for fault in found) else None
    yield from found if other is None else other


def _other_shape(row: JsonValue) -> list[Fault] | None:
    """The shape of a row that another tool wrote, and what is wrong with it besides; None for other rows."""
    keys = shorten(list(row) if isinstance(row, dict) else None)
    try:
        converted = convert(row)
    except UnclearShapeError as unclear:
        return [Fault(unclear.code, "", unclear.reason, keys)]
    if converted is None:
        return None
    left = [fault for fault in _faults_of(converted.row, None) if CODES[fault.code].severity == "error"]
    alone = all(fault.code == "unrecognized_role" and fault.fix is not None for fault in left)
    fix = None if alone else FIX_LATER
    return [Fault("other_shape", "", f"The row is in another tool's shape: {converted.shape}.", keys, fix), *left]


def _faults_of(row: JsonValue, kind: Kind | None) -> Iterator[Fault]:
    """The faults of a row that is taken for one of ours."""
    if not isinstance(row, dict):
        yield Fault("not_an_object", "", f"The row is {type_name(row)}, not an object.", shorten(row))
        return
    own = kind_of(row)
    if "messages" in row and kind in ("chat", "reinforcement"):
        own = kind  # by its keys a row can be either; what the file holds decides
    if own is not None and kind is not None and own != kind:
        yield Fault("mixed_kinds", "", f"A {own} row in a file of {kind} rows.", shorten(list(row)))
    own = own or kind or "chat"
    if own == "completion":
        yield from _completion_faults(row)
    elif own == "preference":
        yield from _preference_faults(row)
    elif own == "reinforcement":
        yield from _reinforcement_faults(row)
    else:
        yield from _chat_faults(row)


def _chat_faults(row: JsonObject) -> Iterator[Fault]:
    yield from _extra_keys(row, ROW_KEYS, "")
    notes = row.get(NOTES)
    if notes is not None and not isinstance(notes, dict):
        yield Fault("invalid_value", NOTES, f"'{NOTES}' is {type_name(notes)}, not an object.", shorten(notes))
    if "messages" not in row:
        yield Fault("missing_messages", "messages", "The row is missing key 'messages'.")
        return
    messages = row["messages"]
    yield from messages_faults(messages, "messages")
    yield from _tool_faults(row, messages, "messages")
    yield from _answer_faults(messages)


def _answer_faults(messages: JsonValue) -> Iterator[Fault]:
    if not isinstance(messages, list) or not messages:
        return
    answers = [one for one in messages if isinstance(one, dict) and role_of(one.get("role")) == "assistant"]
    if not answers:
        yield Fault("missing_assistant", "messages", "No message has the role 'assistant'.")
    elif all(one.get("weight") == 0 and one.get("weight") is not False for one in answers):
        yield Fault("nothing_to_learn", "messages", "Every assistant message has weight 0.")


def _completion_faults(row: JsonObject) -> Iterator[Fault]:
    yield from _extra_keys(row, frozenset(("prompt", "completion")), "")
    for key in ("prompt", "completion"):
        if key not in row:
            yield Fault("missing_key", key, f"The row is missing key '{key}'.")
        elif not isinstance(row[key], str):
            yield Fault("invalid_value", key, f"'{key}' is {type_name(row[key])}, not text.", shorten(row[key]))
    if row.get("prompt") == "":
        yield Fault("empty_prompt", "prompt", "The prompt is empty.", '""')
    completion = row.get("completion")
    if isinstance(completion, str) and not completion.strip():
        yield Fault("empty_completion", "completion", "The completion is empty.", shorten(completion))


def _preference_faults(row: JsonObject) -> Iterator[Fault]:
    yield from _extra_keys(row, PREFERENCE_KEYS, "")
    prompt = row.get("input")
    if not isinstance(prompt, dict):
        missing = "input" not in row
        text = "The row is missing key 'input'." if missing else f"'input' is {type_name(prompt)}, not an object."
        yield Fault("missing_key" if missing else "invalid_value", "input", text, shorten(prompt))
    else:
        yield from _extra_keys(prompt, INPUT_KEYS, "input.")
        messages = prompt.get("messages")
        for fault in messages_faults(messages, "input.messages"):
            if fault.code not in ("last_not_assistant", "no_system"):
                yield fault
        yield from _tool_faults(prompt, messages, "input.messages")
        if _last_role(messages) == "assistant":
            yield Fault("input_ends_with_assistant", "input.messages", "The input ends with an assistant message.")
    outputs = [_output(row, name) for name in ("preferred", "non_preferred")]
    for name, (key, output) in zip(("preferred_output", "non_preferred_output"), outputs, strict=True):
        if key is None:
            yield Fault("missing_key", name, f"The row is missing key '{name}'.")
        else:
            yield from _output_faults(output, key)
    if outputs[0][0] and outputs[1][0] and outputs[0][1] == outputs[1][1]:
        yield Fault("same_outputs", outputs[0][0], "Both outputs are the same.", shorten(outputs[0][1]))


def _output_faults(output: JsonValue, key: str) -> Iterator[Fault]:
    if not isinstance(output, list) or len(output) != 1 or _last_role(output) != "assistant":
        roles = f"{len(output)} messages" if isinstance(output, list) and len(output) != 1 else shorten(output)
        yield Fault("output_not_assistant", key, "The output is not one assistant message.", roles)
    else:
        for fault in messages_faults(output, key):
            if fault.code not in ("no_system", "no_user", "role_order"):
                yield fault


def _reinforcement_faults(row: JsonObject) -> Iterator[Fault]:
    messages = row.get("messages")
    for fault in messages_faults(messages, "messages"):
        if fault.code not in ("last_not_assistant", "no_system"):
            yield fault
    yield from _tool_faults(row, messages, "messages")
    if isinstance(messages, list) and messages and not _ends_with_user(messages):
        text = "The last message is not the user's."
        yield Fault("not_ending_with_user", f"messages[{len(messages) - 1}]", text, shorten(_last_role(messages)))


def _tool_faults(row: JsonObject, messages: JsonValue, path: str) -> Iterator[Fault]:
    prefix = path.removesuffix("messages")
    tools = declared(row)
    for fault in tools.faults:
        yield Fault(fault.code, prefix + fault.path, fault.message, fault.value)
    yield from declared_call_faults(tools, messages, path)
    parallel = row.get("parallel_tool_calls")
    if parallel is not None and not isinstance(parallel, bool):
        text = f"'parallel_tool_calls' is {type_name(parallel)}, not true or false."
        yield Fault("invalid_value", f"{prefix}parallel_tool_calls", text, shorten(parallel))


def _extra_keys(row: JsonObject, known: frozenset[str], prefix: str) -> Iterator[Fault]:
    for key in row:
        if key not in known:
            name = shorten(key)
            yield Fault("extra_key", f"{prefix}{name[1:-1]}", f"The row contains an extra {name}.", shorten(row[key]))


def _output(row: JsonObject, name: str) -> tuple[str | None, JsonValue]:
    for key in (f"{name}_output", f"{name}_completion"):
        if key in row:
            return key, row[key]
    return None, None


def _last_role(messages: JsonValue) -> JsonValue:
    """The last message's role, or the one that is meant by it."""
    last = messages[-1] if isinstance(messages, list) and messages else None
    return role_of(last.get("role")) if isinstance(last, dict) else None


def _ends_with_user(messages: JsonValue) -> bool:
    return _last_role(messages) == "user"


__all__ = ["CHAT_KEYS", "ROW_KEYS", "Kind", "kind_of", "order_faults", "row_faults"]
