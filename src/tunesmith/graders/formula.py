"""The formula of a `multi` grader: arithmetic over the scores of its sub-graders.

Read with `ast` and walked through a list of allowed nodes; nothing is ever evaluated as Python. Every number is a
float, so that no power can grow without bound.
"""

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping

from tunesmith.errors import TunesmithError

MAX_CHARS = 1000
NAME = re.compile(r"(?<![\w.])\w*[^\W\d]\w*")
STAND_IN = "_score_of_"  # and a number: stands for a grader's name, which may be a word of Python such as `class`

OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: math.pow,  # raises where ** would turn complex
}
SIGNS: dict[type[ast.unaryop], Callable[[float], float]] = {ast.USub: operator.neg, ast.UAdd: operator.pos}
ONE_ARGUMENT: dict[str, Callable[[float], float]] = {
    "abs": abs,
    "floor": lambda value: float(math.floor(value)),
    "ceil": lambda value: float(math.ceil(value)),
    "exp": math.exp,
    "sqrt": math.sqrt,
    "log": math.log,
}
SEVERAL_ARGUMENTS: dict[str, Callable[[list[float]], float]] = {"min": min, "max": max}
FUNCTIONS = (*SEVERAL_ARGUMENTS, *ONE_ARGUMENT)


class FormulaError(TunesmithError):
    """A formula that cannot be read; the message says which part of it."""

    status = 400
    type = "invalid_request_error"


class FormulaResultError(TunesmithError):
    """A readable formula without a finite result for these scores."""

    status = 400
    type = "invalid_request_error"


def read_formula(text: str, names: frozenset[str]) -> ast.expr:
    """The checked tree of a formula. Raises FormulaError.

    It may use `names`, numbers, + - * / ^, brackets and `FUNCTIONS`.
    """
    if len(text) > MAX_CHARS:
        raise FormulaError(f"The formula has {len(text):,} characters; at most {MAX_CHARS:,} are read.")
    try:
        tree = _parsed(text, sorted(names))
        _check(tree, names)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else "it is nested too deeply"
        raise FormulaError(f"The formula {text!r} cannot be read: {reason}.") from error
    return tree


def _parsed(text: str, names: list[str]) -> ast.expr:
    """The tree of a formula over any number of lines; a name that is called as a function stays one."""
    if STAND_IN in text:
        raise FormulaError(f"The formula uses {STAND_IN!r}; the sub-graders are {names}.")

    def stand_in(found: re.Match[str]) -> str:
        name = found.group()
        called = name in FUNCTIONS and text[found.end() :].lstrip().startswith("(")
        return name if called or name not in names else f"{STAND_IN}{names.index(name)}"

    line = " ".join(NAME.sub(stand_in, text).split()).replace("^", "**")  # a power, as in OpenAI's formulas
    tree = ast.parse(line, mode="eval").body
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id.startswith(STAND_IN):
            node.id = names[int(node.id.removeprefix(STAND_IN))]
    return tree


def calculate(tree: ast.expr, scores: Mapping[str, float]) -> float:
    """The value of a tree that `read_formula` returned.

    Raises FormulaResultError where it is not a finite number.
    """
    try:
        value = _value(tree, scores)
    except (ZeroDivisionError, OverflowError, ValueError, RecursionError) as error:
        raise FormulaResultError(f"The formula has no result for the scores {dict(scores)}: {error}.") from error
    if not math.isfinite(value):
        raise FormulaResultError(f"The formula's result for the scores {dict(scores)} is {value}.")
    return value


def _check(node: ast.expr, names: frozenset[str]) -> None:
    match node:
        case ast.Constant(value=bool()):
            raise _forbidden(node)
        case ast.Constant(value=int() | float()):
            return
        case ast.Name(id=name):
            if name not in names:
                raise FormulaError(f"The formula uses {name!r}; the sub-graders are {sorted(names)}.")
        case ast.UnaryOp(op=op, operand=operand) if type(op) in SIGNS:
            _check(operand, names)
        case ast.BinOp(left=left, op=binary, right=right) if type(binary) in OPERATORS:
            _check(left, names)
            _check(right, names)
        case ast.Call(func=ast.Name(id=function), args=args, keywords=[]) if function in FUNCTIONS:
            if not args or (function in ONE_ARGUMENT and len(args) != 1):
                raise FormulaError(f"The formula gives {function} {len(args)} arguments.")
            for argument in args:
                _check(argument, names)
        case _:
            raise _forbidden(node)


def _forbidden(node: ast.expr) -> FormulaError:
    return FormulaError(
        f"The formula may not contain {ast.unparse(node)!r}: only the sub-graders' names, numbers, + - * / ^,"
        f" brackets and the functions {', '.join(FUNCTIONS)}."
    )


def _value(node: ast.expr, scores: Mapping[str, float]) -> float:
    match node:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.Name(id=name):
            return scores[name]
        case ast.UnaryOp(op=op, operand=operand):
            return SIGNS[type(op)](_value(operand, scores))
        case ast.BinOp(left=left, op=binary, right=right):
            return OPERATORS[type(binary)](_value(left, scores), _value(right, scores))
        case ast.Call(func=ast.Name(id=function), args=args):
            values = [_value(argument, scores) for argument in args]
            if function in ONE_ARGUMENT:
                return ONE_ARGUMENT[function](values[0])
            return SEVERAL_ARGUMENTS[function](values)
    raise AssertionError(f"unchecked node {ast.dump(node)}")
