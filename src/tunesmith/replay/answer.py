"""A teacher's chat completion as a training row with its provenance."""

import time

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.replay.questions import METADATA, Question
from tunesmith.rows.row import RowError, parse_row

MESSAGE_KEYS = ("content", "tool_calls", "function_call")
CUT = {
    "length": "The answer was cut at the limit of tokens; ask with a larger --max-tokens.",
    "content_filter": "The upstream's content filter cut the answer.",
}


class Unusable(ValueError):
    """An answer that should not be learned; the message says why."""


def training_row(question: Question, completion: JsonObject, provenance: JsonObject) -> JsonObject:
    """The question with its answer.

    Raises Unusable for an answer that is cut, empty, a refusal or broken.
    """
    answer = _answer(_first_choice(completion))
    origin: JsonObject = {
        "teacher": completion.get("model") or provenance["teacher"],
        **{key: value for key, value in provenance.items() if key != "teacher"},
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "finish_reason": _first_choice(completion).get("finish_reason"),
        "completion_id": completion.get("id"),
    }
    row: JsonObject = {"messages": [*question.messages, answer], **question.tools}
    row[METADATA] = {**question.metadata, **origin}
    try:
        parse_row(row)
    except RowError as error:
        raise Unusable(error.message) from None
    return row


def _answer(choice: JsonObject) -> JsonObject:
    finish, message = choice.get("finish_reason"), choice.get("message")
    if isinstance(finish, str) and finish in CUT:
        raise Unusable(CUT[finish])
    if not isinstance(message, dict):
        raise Unusable("The answer has no message.")
    if message.get("refusal"):
        raise Unusable(f"The teacher refused: {str(message['refusal'])[:200]}")
    kept = {key: message[key] for key in MESSAGE_KEYS if message.get(key)}
    if isinstance(content := kept.get("content"), str) and not content.strip():
        kept.pop("content")
    if not kept:
        raise Unusable("The answer is empty.")
    return {"role": "assistant", "content": None, **kept}


def used_tokens(completion: JsonObject) -> tuple[int, int, int] | None:
    """Prompt tokens, those of them that were cached, and completion tokens.

    None where the upstream does not say.
    """
    usage = completion.get("usage")
    if not isinstance(usage, dict):
        return None
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else 0
    prompt, completed = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if not isinstance(prompt, int) or not isinstance(completed, int):
        return None
    return prompt, cached if isinstance(cached, int) else 0, completed


def _first_choice(completion: JsonObject) -> JsonObject:
    choices: JsonValue = completion.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else {}
