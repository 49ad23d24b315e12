"""Whole conversations: ShareGPT, Gemini, Anthropic, Cohere and the like."""

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.rows.other_shapes.parts import answer_messages, system_key, used, with_system, with_tools
from tunesmith.rows.other_shapes.result import Made, UnclearShapeError
from tunesmith.rows.other_shapes.tools import are_odd_tools, json_text
from tunesmith.rows.other_shapes.turns import are_turns, is_odd_turn, messages_of, text_of

ANSWER_KEYS = ("response", "completion", "choices")  # of a log, beside its messages
_LABELS = ("label", "kto_tag")
_OURS = frozenset(("messages", "tools", "functions", "prompt", "completion", "input"))


def recognise_messages(row: JsonObject) -> Made | None:
    """Messages with something beside or inside them that another tool writes."""
    if "messages" not in row:
        return None
    held = row["messages"]
    turns = json_text(held) if isinstance(held, str) else held
    answer_key = next((key for key in ANSWER_KEYS if key in row), None)
    said = _what_is_odd(row, turns, answer_key)
    if said is None or not are_turns(turns):
        return None
    if any(isinstance(row.get(label), bool) for label in _LABELS):
        raise UnclearShapeError("The row has a label that says whether its answer is good: keep only the good answers.")
    messages, dropped = messages_of(turns)
    if answer_key is not None:
        answer = answer_messages(row if answer_key == "choices" else row[answer_key])
        if answer is None:
            return None
        messages = [*messages, *answer]
    made = with_tools(row, {"messages": with_system(row, messages)})
    return Made(said, made, used(row, "messages", answer_key), dropped)


def recognise_conversation(row: JsonObject) -> Made | None:
    """A list of turns under another key than "messages"."""
    if not _OURS.isdisjoint(row.keys() - {"tools", "functions"}):
        return None
    keys = [key for key, value in row.items() if are_turns(value) or are_turns(json_text(value))]
    if len(keys) != 1:
        return None
    (key,) = keys
    if any(isinstance(row.get(label), bool) for label in _LABELS):
        raise UnclearShapeError("The row has a label that says whether its answer is good: keep only the good answers.")
    turns = row[key] if are_turns(row[key]) else json_text(row[key])
    messages, dropped = messages_of(turns)
    made = with_tools(row, {"messages": with_system(row, messages)})
    return Made(_conversation_shape(key, turns), made, used(row, key), dropped)


def recognise_chat_history(row: JsonObject) -> Made | None:
    """Cohere's older requests: a message, the turns before it, and the answer."""
    if "message" not in row or not ("chat_history" in row or "preamble" in row):
        return None
    answer = next((row[key] for key in ("text", "response") if isinstance(row.get(key), str)), None)
    if not isinstance(row["message"], str) or answer is None:
        raise UnclearShapeError("The row is a request to Cohere, and has no answer to learn.")
    history, dropped = messages_of(row.get("chat_history") or [])
    turns: list[JsonValue] = [
        *history,
        {"role": "user", "content": row["message"]},
        {"role": "assistant", "content": answer},
    ]
    key = "text" if "text" in row else "response"
    made = with_tools(row, {"messages": with_system(row, turns)})
    return Made("Cohere's (message, chat_history)", made, used(row, "message", "chat_history", key), dropped)


def _what_is_odd(row: JsonObject, turns: JsonValue, answer_key: str | None) -> str | None:
    """The name of what is not as ours in a row with messages; None if nothing is."""
    if isinstance(row["messages"], str) and turns is not None:
        return "messages as JSON text"
    if isinstance(row.get("tools"), str):
        return "tools as JSON text"
    if isinstance(turns, list) and any(map(is_odd_turn, turns)):
        return "messages of another tool (such as Anthropic's blocks, or from and value)"
    if answer_key is not None:
        return f"a log (messages, and the answer in '{answer_key}')"
    if (key := system_key(row)) is not None and text_of(row[key]) is not None:
        return f"messages with '{key}' beside them"
    if are_odd_tools(row.get("tools")):
        return "tools that another tool declares"
    if any(isinstance(row.get(label), bool) for label in _LABELS):
        return "KTO's (messages and label)"
    return None


def _conversation_shape(key: str, turns: JsonValue) -> str:
    first = turns[0] if isinstance(turns, list) and turns else None
    if key == "contents" and isinstance(first, dict) and "parts" in first:
        return "Gemini's (contents, parts)"
    if isinstance(first, dict) and "from" in first:
        return f"ShareGPT's ({key}, from, value)"
    return f"a conversation under '{key}'"
