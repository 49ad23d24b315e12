"""Requests and responses of services: batch files, and logs of calls."""

from tunesmith.jsonvalue import JsonObject
from tunesmith.rows.other_shapes.parts import answer_messages, prompt_messages, with_tools
from tunesmith.rows.other_shapes.preferences import OUTPUTS
from tunesmith.rows.other_shapes.result import Made, UnclearShapeError

_REQUESTS = ("body", "request", "request_body", "params", "kwargs", "input")
_RESPONSES = ("response", "response_body", "output", "completion", "result")
_PREFERENCES = frozenset(key for pair in OUTPUTS for key in pair)
_NO_ANSWER = (
    "The row is a request of a batch, which has no answer to learn: the answers are in the batch's output file. "
    "Add each to its row, as the last of its messages."
)
_NO_PROMPT = (
    "The row is a response without its request, so nothing says what was asked: the messages are in the batch's "
    "input file. Put both into one row."
)


def recognise_request(row: JsonObject) -> Made | None:
    """A request with its messages inside, and the response beside it."""
    request_key = next((key for key in _REQUESTS if _has_messages(row.get(key))), None)
    if request_key is None or not row.keys().isdisjoint(_PREFERENCES):
        return None
    request = row[request_key]
    messages = prompt_messages(request)
    if messages is None or not isinstance(request, dict):
        return None
    response_key = next((key for key in _RESPONSES if key in row), None)
    if response_key is None and request_key == "input":  # a preference row without its outputs
        return None
    answer = answer_messages(row[response_key]) if response_key is not None else []
    last = messages[-1] if messages else None
    if answer is None or (not answer and not (isinstance(last, dict) and last.get("role") == "assistant")):
        raise UnclearShapeError(
            _NO_ANSWER if "custom_id" in row else "The row is a request without an answer to learn."
        )
    keys = frozenset(key for key in (request_key, response_key) if key is not None)
    names = ", ".join(key for key in (request_key, response_key) if key is not None)
    return Made(f"a service's requests ({names})", with_tools(request, {"messages": [*messages, *answer]}), keys)


def recognise_response(row: JsonObject) -> Made | None:
    """A response alone can never be converted; UnclearShapeError says so."""
    inner = row.get("response", row)
    body = inner.get("body", inner) if isinstance(inner, dict) else None
    choices = body.get("choices") if isinstance(body, dict) and "messages" not in row else None
    if isinstance(choices, list) and all(isinstance(choice, dict) for choice in choices):  # not those of a quiz
        raise UnclearShapeError(_NO_PROMPT)
    return None


def _has_messages(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("messages"), list)
