"""How large a plain schema may be, in what its grammar costs.

llguidance counts a part of its own work (`FUEL`); what it does not count is counted here, so that the same schema is
taken or refused on any machine. Each limit costs about half a second.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal

from llguidance import LLParserLimits

from tunesmith.errors import InvalidRequest
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.system.deadline import OutOfTime, time_limit

FUEL = LLParserLimits(initial_lexer_fuel=300_000, max_grammar_size=100_000)
REQUEST_SECONDS = 10.0  # of all schemas of one request together; each is looked at whole
MAX_PROPERTIES = 3_000  # of one object: llguidance's time grows with the square
MAX_NAME_PATTERNS = 100  # `patternProperties` of one object: each is compared with each
MAX_PATTERN = 60_000  # characters, also of what takes the place of `not` and `enum`
MAX_TOGETHER = 10  # patterns that one text must match: llguidance's time doubles with each
MAX_MULTIPLES = 100_000  # the `multipleOf` of a schema, as whole numbers: each is as many states


@contextmanager
def schemas_in_time(seconds: float = REQUEST_SECONDS) -> Iterator[None]:
    """Limits the time that the schemas of one request take.

    Raises InvalidRequest beyond.
    """
    try:
        with time_limit(seconds):
            yield
    except OutOfTime:
        raise InvalidRequest(
            "The schemas of 'tools' and 'response_format' take too long to prepare. Send fewer, or simpler ones.",
            param="tools",
            code="schemas_too_large",
        ) from None


def size_fault(part: JsonObject, plain: JsonObject) -> str | None:
    """What of a part costs too much, as the end of a sentence."""
    for keyword, most in (("properties", MAX_PROPERTIES), ("patternProperties", MAX_NAME_PATTERNS)):
        listed = part.get(keyword)
        if isinstance(listed, dict) and len(listed) > most:
            what = "properties" if keyword == "properties" else f"'{keyword}'"
            return f"it lists {len(listed)} {what}, the limit is {most}"
    for pattern in _patterns(part):
        if len(pattern) > MAX_PATTERN:
            return f"a 'pattern', or what a 'not' comes to, has {len(pattern)} characters; the limit is {MAX_PATTERN}"
    if "allOf" in part and (together := sum(1 for _ in _together(part, plain))) > MAX_TOGETHER:
        return f"one text must match {together} patterns at once, the limit is {MAX_TOGETHER}; write one 'pattern'"
    return None


def multiple(part: JsonObject) -> int:
    """The states that the `multipleOf` of a part costs.

    They are its digits without their point and last zeros.
    """
    value = part.get("multipleOf")
    if isinstance(value, bool) or not isinstance(value, int | float) or not value:
        return 0
    digits = Decimal(repr(value)).normalize().as_tuple().digits
    return int("".join(map(str, digits)))


def _patterns(part: JsonObject) -> Iterator[str]:
    if isinstance(pattern := part.get("pattern"), str):
        yield pattern
    named = part.get("patternProperties")
    yield from named if isinstance(named, dict) else ()


def _together(part: JsonObject, plain: JsonObject) -> Iterator[str]:
    """The patterns that hold together, through `allOf` and `$ref`."""
    definitions, seen = plain.get("$defs"), set[int]()
    pending: list[JsonValue] = [part]
    while pending:
        one = pending.pop()
        if not isinstance(one, dict) or id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(pattern := one.get("pattern"), str):
            yield pattern
        parts, reference = one.get("allOf"), one.get("$ref")
        pending += parts if isinstance(parts, list) else []
        if isinstance(reference, str) and isinstance(definitions, dict):
            pending.append(definitions.get(reference.rpartition("/")[2]))
