"""How good one answer is beside the one that the file has.

Right-or-wrong criteria: the same text, JSON that can be read, of the same shape and of the same value, the same tool
calls, no refusal. Graded ones, 0 to 1: F1 of the words, ROUGE-L. A criterion counts only for rows whose reference has
to do with it.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import orjson

from tunesmith.graders.similarity import folded_words, rouge_l
from tunesmith.jsonvalue import JsonObject, JsonValue

REFUSAL = re.compile(
    r"\W*(?:i['’]?m sorry|i am sorry|sorry,|i can(?:not|['’]t)|i am unable|i['’]m unable|as an ai|抱歉|对不起)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer's text and its tool calls as (name, arguments)."""

    text: str
    calls: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Criterion:
    """What is compared.

    `judge` gives the score, or None where the reference has nothing to do with it.
    """

    name: str
    judge: Callable[[Reply, Reply], float | None]
    graded: bool = False  # between 0 and 1, not right or wrong


def read_reply(message: Mapping[str, JsonValue]) -> Reply:
    """The reply in an assistant message of a file or of an answer."""
    content, calls = message.get("content"), message.get("tool_calls")
    text = content if isinstance(content, str) else _parts(content)
    made = [_call(one.get("function")) for one in calls if isinstance(one, dict)] if isinstance(calls, list) else []
    if isinstance(old := message.get("function_call"), dict):
        made.append(_call(old))
    return Reply(text, tuple(made))


def is_refusal(reply: Reply) -> bool:
    """Whether the answer begins as a refusal does, in English or Chinese."""
    return not reply.calls and REFUSAL.match(reply.text) is not None


def _parts(content: JsonValue) -> str:
    parts = content if isinstance(content, list) else []
    return "".join(str(one.get("text", "")) for one in parts if isinstance(one, dict))


def _call(function: JsonValue) -> tuple[str, str]:
    value = function if isinstance(function, dict) else {}
    return str(value.get("name", "")), str(value.get("arguments", ""))


def _exact(reply: Reply, reference: Reply) -> float | None:
    return None if reference.calls else float(reply.text.split() == reference.text.split() and not reply.calls)


def _readable(reply: Reply, reference: Reply) -> float | None:
    return None if _object(reference.text) is None else float(_object(reply.text) is not None)


def _same_json(reply: Reply, reference: Reply) -> float | None:
    wanted = _object(reference.text)
    return None if wanted is None else float(_object(reply.text) == wanted)


def _same_shape(reply: Reply, reference: Reply) -> float | None:
    wanted, made = _object(reference.text), _object(reply.text)
    return None if wanted is None else float(made is not None and _shape(made) == _shape(wanted))


def _shape(value: JsonValue) -> object:
    """The keys of objects with the kinds of their values; of a list the kinds of its items, whatever their number."""
    if isinstance(value, dict):
        return tuple(sorted((key, repr(_shape(one))) for key, one in value.items()))
    if isinstance(value, list):
        return ("list", tuple(sorted({repr(_shape(one)) for one in value})))
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return "number" if number else type(value).__name__


def _no_refusal(reply: Reply, reference: Reply) -> float | None:
    return None if is_refusal(reference) else float(not is_refusal(reply))


def _same_calls(reply: Reply, reference: Reply) -> float | None:
    """By structure: the order of the calls, and of keys in their arguments, says nothing."""
    if not reference.calls:
        return None
    return float(Counter(map(_structure, reply.calls)) == Counter(map(_structure, reference.calls)))


def _structure(call: tuple[str, str]) -> tuple[str, bytes]:
    name, arguments = call
    try:
        return name, orjson.dumps(orjson.loads(arguments or "{}"), option=orjson.OPT_SORT_KEYS)
    except (orjson.JSONDecodeError, TypeError, UnicodeEncodeError):
        return name, arguments.encode("utf-8", "surrogatepass")


def _f1(reply: Reply, reference: Reply) -> float | None:
    if reference.calls:
        return None
    made, wanted = Counter(folded_words(reply.text)), Counter(folded_words(reference.text))
    common = (made & wanted).total()
    return 2 * common / (made.total() + wanted.total()) if common else float(made == wanted)


def _rouge_l(reply: Reply, reference: Reply) -> float | None:
    return None if reference.calls else rouge_l(reply.text, reference.text)


def _object(text: str) -> JsonObject | list[JsonValue] | None:
    """The JSON object or list that a text is; None for any other text."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        value: JsonValue = orjson.loads(text)
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        return None
    return value if isinstance(value, dict | list) else None


SAME_CALLS = Criterion("same tool calls", _same_calls)
SAME_JSON = Criterion("same JSON value", _same_json)
VALID_JSON = Criterion("valid JSON", _readable)
SHAPE = Criterion("same JSON keys and types", _same_shape)
EXACT = Criterion("same text", _exact)
WORDS = Criterion("words in common (F1)", _f1, graded=True)
ROUGE = Criterion("ROUGE-L", _rouge_l, graded=True)
ANSWERED = Criterion("no refusal", _no_refusal)
CRITERIA = (SAME_CALLS, SAME_JSON, VALID_JSON, SHAPE, EXACT, WORDS, ROUGE, ANSWERED)
