"""What an operation of a template would make, judged before it does.

`'a' * 10**9`, `'%1000000000d' % 1` and `'a'|center(10**9)` are one operation each, which cannot be interrupted. Methods
of texts, lists and dicts that are not listed here do not exist for a template: some take quadratic time, others make
bytes.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from string import Formatter
from types import BuiltinMethodType, MappingProxyType
from typing import TypeAlias, cast

from jinja2.exceptions import SecurityError
from jinja2.filters import FILTERS
from jinja2.runtime import Macro
from jinja2.tests import TESTS

from tunesmith.render.template_meter import BITS, DEPTH, ITEMS, Counted, TooMuch, Weight, made, meter

Function: TypeAlias = Callable[..., object]
Arguments: TypeAlias = Sequence[object]
Guard: TypeAlias = Callable[[Arguments, Weight], None]  # a filter's value and arguments, or a text and a method's

MOST_ARGUMENTS = 255
SHORT = 64  # characters of an argument that makes no method slow
SLOW_CHARS = 10_000  # for what takes quadratic time
WIDTH = 9_999  # in a format
_LONG_NUMBER, _STARRED = re.compile(r"\d{5,}"), re.compile(r"%[^a-zA-Z%]*\*")
# They look at no more than they hand on, or hand it on piece by piece.
_LAZY = "attr batch count d default first last length map random reject rejectattr select selectattr slice"
LAZY = frozenset(_LAZY.split())
_TEXT_METHODS = (
    "capitalize casefold center count endswith expandtabs find format index isalnum isalpha isascii isdecimal isdigit"
    " isidentifier islower isnumeric isprintable isspace istitle isupper join ljust lower lstrip partition removeprefix"
    " removesuffix replace rfind rindex rjust rpartition rsplit rstrip split splitlines startswith strip swapcase title"
    " upper zfill"
)
METHODS: Mapping[type, frozenset[str]] = MappingProxyType(
    {
        str: frozenset(_TEXT_METHODS.split()),
        list: frozenset(("copy", "count", "index")),
        tuple: frozenset(("count", "index")),
        dict: frozenset(("copy", "get", "items", "keys", "values")),
        float: frozenset(("is_integer",)),
    }
)


def limited_filter(name: str, function: Function) -> Function:
    """A filter of Jinja's within the limits."""
    passed = 1 if hasattr(function, "jinja_pass_arg") else 0  # the context or environment, before the value
    guard = FILTER_GUARDS.get(name)
    quick = name in QUICK_FILTERS

    @wraps(function)
    def run(*args: object, **named: object) -> object:
        if quick and len(args) == passed + 1 and type(args[passed]) is str:
            return made(function(*args, **named))
        meter().step()
        given = [*args[passed:], *named.values()]
        if name not in LAZY:
            given[:1] = [_drawn(one) for one in given[:1]]
            weight = meter().weigh(*given)
        else:
            weight = meter().weigh(*given[1:])
        if guard is not None:
            guard(given, weight)
        depth = max((one.depth for one in given if isinstance(one, Counted)), default=0)
        result = made(function(*args[:passed], *given[: len(args) - passed], **named))
        return Counted(result, depth + 1) if depth and isinstance(result, Counted) else result

    return run


def limited_test(function: Function) -> Function:
    """A test of Jinja's, counted."""

    @wraps(function)
    def run(*args: object, **named: object) -> object:
        meter().step()
        return function(*args, **named)

    return run


def is_quick(function: object, args: Arguments) -> bool:
    """Whether it is a method of a text that makes nothing larger, such as `strip`."""
    return (
        type(function) is BuiltinMethodType
        and type(function.__self__) is str
        and function.__name__ in QUICK_METHODS
        and all(type(one) is str and len(one) <= SHORT for one in args)
    )


def check_call(function: object, args: Arguments) -> Arguments:
    """The arguments of a call that may be made.

    Raises TooMuch or SecurityError for another.
    """
    meter().step()
    if len(args) > MOST_ARGUMENTS:
        raise TooMuch(f"calls with more than {MOST_ARGUMENTS} arguments")
    owner = getattr(function, "__self__", None)
    if isinstance(owner, (str, list, tuple, dict, int, float, bytes, range, type)) or type(owner) in _VIEWS:
        return _check_method(owner, str(getattr(function, "__name__", "")), args)
    if not isinstance(function, Macro) or function.catch_varargs or function.catch_kwargs:
        meter().weigh(*(one for one in args if not isinstance(one, Counted)))
    return args


def check_format(text: str, args: Arguments) -> None:
    """Judges `text.format(*args)`."""
    fields = 0
    for _, name, spec, _ in Formatter().parse(text):
        fields += name is not None
        if spec and "{" in spec:
            raise TooMuch("formats a text with a width that is computed")
    _check_fields(text, fields, args)


def check_operator(operator: str, left: object, right: object) -> None:
    """Judges an operator before it is applied."""
    meter().step()
    if operator == "%" and isinstance(left, str):
        _check_percent([left, right], meter().weigh(left, right))
    elif operator == "*":
        _check_product(left, right)
    elif operator == "**" and isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() * abs(right))


def _check_product(left: object, right: object) -> None:
    for value, times in ((left, right), (right, left)):
        if not isinstance(times, int):
            continue
        if isinstance(value, str):
            meter().write(len(value) * max(times, 0))
            return
        if isinstance(value, (list, tuple)):
            _check_items(len(value) * times)
            return
        if isinstance(value, int):
            _check_bits(value.bit_length() + times.bit_length())


def _check_method(owner: object, name: str, args: Arguments) -> Arguments:
    kind = next((one for one in METHODS if isinstance(owner, one)), None)
    if kind is None or name not in METHODS[kind] or isinstance(owner, type):
        raise SecurityError(f"a chat template may not call {name} of {type(owner).__name__}")
    drawn = [_drawn(one) for one in args]
    weight = meter().weigh(*drawn)
    if kind is str:
        guard = METHOD_GUARDS.get(name)
        if guard is not None:
            guard([owner, *drawn], Weight(weight.chars + len(str(owner)), weight.items, weight.depth))
    elif kind is not float:
        meter().weigh(owner)
    return drawn


def _drawn(value: object) -> object:
    return list(value) if isinstance(value, Counted) else value


def _check_items(items: int) -> None:
    if items > ITEMS:
        raise TooMuch(f"makes a list of more than {ITEMS:,} items")


def _check_bits(bits: int) -> None:
    if bits > BITS:
        raise TooMuch(f"makes a number of more than {BITS} bits")


def _numbers(given: Arguments) -> int:
    """The largest number among the arguments."""
    return max((abs(one) for one in given[1:] if isinstance(one, int)), default=0)


def _longest(given: Arguments) -> int:
    return max((len(one) for one in given[1:] if isinstance(one, str)), default=0)


def _check_width(given: Arguments, weight: Weight) -> None:
    meter().write(weight.chars + _numbers(given))


def _check_tabs(given: Arguments, weight: Weight) -> None:
    meter().write(weight.chars + str(given[0]).count("\t") * max(_numbers(given), 8))


def _check_indent(given: Arguments, weight: Weight) -> None:
    lines = len(str(given[0]).splitlines()) + 1
    meter().write(weight.chars + lines * max(_numbers(given), _longest(given), 4))


def _check_join(given: Arguments, weight: Weight) -> None:
    meter().write(weight.chars + weight.items * _longest(given))


def _check_method_join(given: Arguments, weight: Weight) -> None:
    meter().write(weight.chars + weight.items * len(str(given[0])))


def _check_replace(given: Arguments, weight: Weight) -> None:
    found = str(given[0]).count(str(given[1])) if len(given) > 2 else 0
    meter().write(weight.chars + found * _longest(given))


def _check_percent(given: Arguments, weight: Weight) -> None:
    text = str(given[0])
    values = [one for value in given[1:] for one in (value if isinstance(value, tuple) else (value,))]
    if _STARRED.search(text) and _numbers([text, *values]) > WIDTH:
        raise TooMuch(f"formats a text with a width above {WIDTH:,}")
    _check_fields(text, text.count("%"), given[1:])


def _check_fields(text: str, fields: int, args: Arguments) -> None:
    if _LONG_NUMBER.search(text):
        raise TooMuch(f"formats a text with a width above {WIDTH:,}")
    width = WIDTH if "*" in text or any(map(str.isdigit, text)) else 0
    meter().write(len(text) + fields * (meter().weigh(*args).chars + width))


def _check_pieces(given: Arguments, _: Weight) -> None:
    _check_items(_numbers(given))


def _check_digits(given: Arguments, _: Weight) -> None:
    if _numbers(given) > DEPTH:
        raise TooMuch(f"rounds to more than {DEPTH} digits")


def _check_slow(given: Arguments, weight: Weight) -> None:
    meter().step(weight.chars >> 2)
    if weight.chars > SLOW_CHARS or _numbers(given) > SLOW_CHARS:
        raise TooMuch(f"runs a slow filter over more than {SLOW_CHARS:,} characters")
    meter().write(weight.chars * (1 + _longest(given)))


def _check_json(given: Arguments, weight: Weight) -> None:
    longest = max(_numbers(given), meter().weigh(*given[1:]).chars)
    meter().write(weight.chars + weight.items * (weight.depth + 1) * longest)


def _check_sum(given: Arguments, _: Weight) -> None:
    if any(isinstance(one, (list, tuple)) for one in given[1:]):
        raise TooMuch("adds up lists")


def _check_both_lengths(given: Arguments, _: Weight) -> None:
    """Looking from the right, and for each of many characters, takes both lengths multiplied at worst."""
    meter().step(len(str(given[0])) * _longest(given) >> 10)


QUICK_FILTERS = frozenset(["length", "lower", "string", "trim", "upper"])  # of a text
QUICK_METHODS = frozenset(["endswith", "lower", "lstrip", "rstrip", "split", "startswith", "strip", "upper"])
_VIEWS = frozenset((type({}.keys()), type({}.values()), type({}.items())))
FILTER_GUARDS: Mapping[str, Guard] = MappingProxyType(
    {
        "batch": _check_pieces,
        "center": _check_width,
        "format": _check_percent,
        "indent": _check_indent,
        "join": _check_join,
        "pprint": _check_slow,
        "replace": _check_replace,
        "round": _check_digits,
        "slice": _check_pieces,
        "striptags": _check_slow,
        "sum": _check_sum,
        "tojson": _check_json,
        "trim": _check_both_lengths,
        "urlize": _check_slow,
        "wordwrap": _check_slow,
    }
)
METHOD_GUARDS: Mapping[str, Guard] = MappingProxyType(
    {
        "center": _check_width,
        "expandtabs": _check_tabs,
        "join": _check_method_join,
        "lstrip": _check_both_lengths,
        "rstrip": _check_both_lengths,
        "strip": _check_both_lengths,
        "ljust": _check_width,
        "replace": _check_replace,
        "rfind": _check_both_lengths,
        "rindex": _check_both_lengths,
        "rjust": _check_width,
        "rpartition": _check_both_lengths,
        "rsplit": _check_both_lengths,
        "zfill": _check_width,
    }
)
LIMITED_TESTS = {name: limited_test(cast(Function, test)) for name, test in TESTS.items()}
LIMITED_FILTERS = {name: limited_filter(name, function) for name, function in FILTERS.items()}
