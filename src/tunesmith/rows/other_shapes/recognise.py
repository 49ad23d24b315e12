"""Tells another tool's row, and what it is in our shape.

Nothing is guessed: a row that leaves a choice is named with the choice.
"""

from collections.abc import Callable, Iterator
from difflib import get_close_matches

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.rows.other_shapes.chats import recognise_chat_history, recognise_conversation, recognise_messages
from tunesmith.rows.other_shapes.lost_text import is_lost
from tunesmith.rows.other_shapes.pairs import recognise_pair
from tunesmith.rows.other_shapes.preferences import OUTPUTS, recognise_preference
from tunesmith.rows.other_shapes.requests import recognise_request, recognise_response
from tunesmith.rows.other_shapes.result import Converted, Made, UnclearShapeError
from tunesmith.rows.other_shapes.turns import KEPT, are_turns, is_turn, messages_of, role_of

RECOGNISERS: tuple[Callable[[JsonObject], Made | None], ...] = (
    recognise_preference,
    recognise_request,
    recognise_response,
    recognise_messages,
    recognise_chat_history,
    recognise_conversation,
    recognise_pair,
)
OUR_KEYS = ("messages", "tools", "functions", "prompt", "completion", "input", *OUTPUTS[0], *OUTPUTS[1])
# Keys that belong to what a row teaches: a row is not converted without them.
CARRIERS = frozenset(
    (
        *("context", "history", "chat_history", "system", "system_prompt", "preamble", "documents", "functions"),
        *("label", "weight", "chosen", "rejected", "images", "image", "audio"),
        *("thinking", "reasoning", "reasoning_content"),
    )
)
_CHAT = frozenset(("messages", "tools", "functions", "parallel_tool_calls", "metadata"))
_MESSAGE = frozenset(("role", "content", *KEPT))
_HOLDING = frozenset(("input", "messages", *OUTPUTS[0], *OUTPUTS[1]))
SPELLING = 0.8  # how alike a key and one of ours are when one is taken for the other misspelt


def convert(row: JsonValue) -> Converted | None:
    """The row of ours that another tool's row means; None when it is in no such shape.

    UnclearShapeError when the shape is known and its meaning is not.
    """
    if isinstance(row, list):
        if not are_turns(row):
            return None
        messages, dropped = messages_of(row)
        return Converted("a list of messages", {"messages": messages}, dropped)
    if not isinstance(row, dict):
        return None
    for recognise in RECOGNISERS:
        made = recognise(row)
        if made is not None:
            return Converted(made.shape, made.row, made.dropped + _dropped(row, made))
    if is_turn(row):
        raise UnclearShapeError(
            "The row is a single message: nothing says where a conversation begins and ends. Write "
            'those of each into one row, {"messages": [...]}.'
        )
    _refuse_unknown(row)
    _refuse_loss(row)
    return None


def _dropped(row: JsonObject, made: Made) -> tuple[str, ...]:
    left = [key for key in row if key not in made.used]
    for key in left:
        if (key in CARRIERS and row[key] not in (None, "", [], {})) or is_lost(key, row[key], made.row):
            raise UnclearShapeError(
                f'The row also has "{key}", and nothing says how it belongs to the rest. '
                "Name the columns that make the prompt, in their order.",
                "unclear_columns",
            )
    return tuple(left)


def _refuse_unknown(row: JsonObject) -> None:
    """Raises UnclearShapeError for a row of texts under keys of which none is ours, nor one misspelt."""
    if not row.keys().isdisjoint(OUR_KEYS) or any(get_close_matches(key, OUR_KEYS, 1, SPELLING) for key in row):
        return
    texts = [key for key, value in row.items() if isinstance(value, str)]
    if not texts:
        return
    if len(texts) == 1:
        said = f'The row has one text, "{texts[0]}": nothing says where the answer begins.'
    else:
        shown = ", ".join(f'"{key}"' for key in texts[:6])
        said = f"Nothing says which of {shown} is the prompt and which the answer."
    raise UnclearShapeError(said, "unclear_columns")


def _refuse_loss(row: JsonObject) -> None:
    """Raises UnclearShapeError for a row of ours with text beside it that no message has."""
    ours = _our_keys(row)
    if ours is None:
        return
    kept: list[JsonValue] = []
    odd: list[tuple[str, JsonObject]] = []
    for where, holder, known in _holders(row, ours):
        kept += [value for key, value in holder.items() if key in known and key not in _HOLDING]
        missing = known - holder.keys()
        odd.append((where, {k: v for k, v in holder.items() if k not in known and not _is_misspelt(k, missing)}))
    for where, extra in odd:
        for key, value in extra.items():
            if is_lost(key, value, kept):
                raise UnclearShapeError(
                    f'{where} also has "{key}", with text that stands nowhere else in the row. Put it where the model '
                    "should read it, or delete the key if the model should not."
                )


def _holders(row: JsonObject, ours: frozenset[str]) -> Iterator[tuple[str, JsonObject, frozenset[str]]]:
    """The row, its input and each of its messages, with the keys of ours for it."""
    yield "The row", row, ours
    source = row.get("input")
    if isinstance(source, dict):
        yield "The input", source, _CHAT
    for lists in (row, source if isinstance(source, dict) else {}):
        for key in _HOLDING:
            messages = lists.get(key)
            for message in messages if isinstance(messages, list) else []:
                if isinstance(message, dict):
                    yield "A message", message, _MESSAGE


def _our_keys(row: JsonObject) -> frozenset[str] | None:
    """The keys that belong to a row of ours; None for other rows.

    Beside messages that end with the user's, further keys are what a grader reads.
    """
    messages = row.get("messages")
    if isinstance(messages, list):
        last = messages[-1] if messages else None
        return _CHAT if isinstance(last, dict) and role_of(last.get("role")) != "user" else None
    if "completion" in row and "prompt" in row:
        return frozenset(("prompt", "completion"))
    keys = next((pair for pair in OUTPUTS[:2] if pair[0] in row and pair[1] in row), None)
    return None if keys is None else frozenset((*keys, "input"))


def _is_misspelt(key: str, missing: frozenset[str]) -> bool:
    return bool(get_close_matches(key, missing, 1, SPELLING))
