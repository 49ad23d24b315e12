"""Two answers of which one is better, such as TRL's chosen and rejected."""

import re

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.rows.other_shapes.pairs import MORE_INPUT
from tunesmith.rows.other_shapes.parts import (
    answer_messages,
    plain_text,
    prompt_messages,
    used,
    with_system,
    with_tools,
)
from tunesmith.rows.other_shapes.result import Made, UnclearShapeError
from tunesmith.rows.other_shapes.turns import role_of

OUTPUTS = (
    ("preferred_output", "non_preferred_output"),
    ("preferred_completion", "non_preferred_completion"),
    ("chosen", "rejected"),
    ("chosen_response", "rejected_response"),
    ("response_chosen", "response_rejected"),
    ("accepted", "rejected"),
    ("preferred", "rejected"),
    ("preferred", "dispreferred"),
    ("preferred", "non_preferred"),
)
_PROMPTS = ("input", "messages", "prompt", "instruction", "question", "query", "conversations", "context")
_HH_TURN = re.compile(r"\n\n(Human|Assistant): ?")
_HH_ROLES = {"Human": "user", "Assistant": "assistant"}

Messages = list[JsonValue]


def recognise_preference(row: JsonObject) -> Made | None:
    """A preference row; None for other rows, and for those in our shape already."""
    keys = next((pair for pair in OUTPUTS if pair[0] in row and pair[1] in row), None)
    if keys is None or _is_native(row, keys):
        return None
    prompt_key = "instruction" if "instruction" in row else next((key for key in _PROMPTS if key in row), None)
    better, worse = answer_messages(row[keys[0]]), answer_messages(row[keys[1]])
    if not better or not worse:
        return None
    prompt: Messages | None = None
    if prompt_key is not None:
        prompt = prompt_messages(row[prompt_key])
        if prompt is None:
            return None
        prompt = _with_more(row, prompt_key, prompt)
    elif any(isinstance(row[key], str) for key in keys):
        better, worse = _hh_turns(row[keys[0]]), _hh_turns(row[keys[1]])
    prompt, preferred, other = _split(prompt, better, worse)
    holder = row[prompt_key] if prompt_key == "input" and isinstance(row.get("input"), dict) else row
    source: JsonObject = with_tools(holder if isinstance(holder, dict) else row, {"messages": with_system(row, prompt)})
    made: JsonObject = {"input": source, "preferred_output": [preferred], "non_preferred_output": [other]}
    more = next((key for key in MORE_INPUT if prompt_key == "instruction" and key in row), None)
    return Made(_shape(row, keys, prompt_key), made, used(row, *keys, prompt_key, more))


def _is_native(row: JsonObject, keys: tuple[str, str]) -> bool:
    source = row.get("input")
    if keys not in OUTPUTS[:2] or not isinstance(source, dict) or isinstance(source.get("tools"), str):
        return False
    return isinstance(source.get("messages"), list) and all(isinstance(row[key], list) for key in keys)


def _shape(row: JsonObject, keys: tuple[str, str], prompt_key: str | None) -> str:
    names = ", ".join(key for key in (prompt_key, *keys) if key is not None)
    if keys in OUTPUTS[:2]:
        return (
            f"preference rows with '{prompt_key}' in place of 'input.messages'"
            if prompt_key != "input"
            else ("preference rows whose 'input' or outputs are not messages")
        )
    lists = ", as lists of messages" if isinstance(row[keys[0]], list) else ""
    return f"TRL's ({names}{lists})"


def _with_more(row: JsonObject, prompt_key: str, prompt: Messages) -> Messages:
    more = next((key for key in MORE_INPUT if prompt_key == "instruction" and key in row), None)
    text = plain_text(row.get(more)) if more else None
    if not text or not text.strip():
        return prompt
    return [{"role": "user", "content": f"{plain_text(row[prompt_key])}\n\n{text}"}]


def _split(prompt: Messages | None, better: Messages, worse: Messages) -> tuple[Messages, JsonValue, JsonValue]:
    """The prompt, and one message each that answers it; the answers may repeat the prompt before them."""
    if prompt is None or (len(better) > 1 or len(worse) > 1):
        shared = better[:-1]
        if len(better) != len(worse) or shared != worse[:-1]:
            raise UnclearShapeError(
                "The two conversations differ before their last message: an answer is one message here. "
                "Cut both where they part."
            )
        if not shared:
            raise UnclearShapeError("The row has two answers and no prompt: say what they answer.")
        if prompt is not None and prompt not in (better, worse) and shared[-len(prompt) :] != prompt:
            raise UnclearShapeError("The prompt is not that of the two conversations: keep one of them.")
        prompt = shared
    return _before_answers(prompt, better[-1], worse[-1]), better[-1], worse[-1]


def _before_answers(prompt: Messages, better: JsonValue, worse: JsonValue) -> Messages:
    """The prompt without the answer that it may repeat at its end."""
    last = prompt[-1] if prompt else None
    if not isinstance(last, dict) or role_of(last.get("role")) != "assistant":
        return prompt
    if last in (better, worse) and len(prompt) > 1:
        return _before_answers(prompt[:-1], better, worse)
    raise UnclearShapeError(
        "The messages before the two answers end with another answer: end them with the user's turn, which the two"
        " answer, or delete the answers that should not be learned."
    )


def _hh_turns(value: JsonValue) -> Messages:
    """The turns of a text as Anthropic's HH data has them, each after "Human:" or "Assistant:"."""
    before, *parts = _HH_TURN.split(value if isinstance(value, str) else "x")
    if before or len(parts) < 4:
        raise UnclearShapeError("The row has two texts and no prompt: nothing says where the answers begin.")
    return [
        {"role": _HH_ROLES[role], "content": text}
        for role, text in zip(parts[::2], (part.strip() for part in parts[1::2]), strict=True)
    ]
