"""Tells another tool's row, and what it is in our shape.

Nothing is guessed: a row that leaves a choice is named with the choice.
"""

from collections.abc import Callable
from difflib import get_close_matches

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.rows.other_shapes.chats import recognise_chat_history, recognise_conversation, recognise_messages
from tunesmith.rows.other_shapes.pairs import recognise_pair
from tunesmith.rows.other_shapes.preferences import OUTPUTS, recognise_preference
from tunesmith.rows.other_shapes.requests import recognise_request, recognise_response
from tunesmith.rows.other_shapes.result import Converted, Made, UnclearShapeError
from tunesmith.rows.other_shapes.turns import are_turns, is_turn, messages_of

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
            return Converted(made.shape, made.row, made.dropped + _dropped(row, made.used))
    if is_turn(row):
        raise UnclearShapeError(
            "The row is a single message: nothing says where a conversation begins and ends. Write "
            'those of each into one row, {"messages": [...]}.'
        )
    _refuse_unknown(row)
    return None


def _dropped(row: JsonObject, used: frozenset[str]) -> tuple[str, ...]:
    left = [key for key in row if key not in used]
    for key in left:
        if key in CARRIERS and row[key] not in (None, "", [], {}):
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
