"""The Jinja environment in which chat templates run.

It is sandboxed, and has all that transformers gives them. Besides Jinja's own: `raise_exception`, `strftime_now`,
`tojson` with its options, `dict`, loop controls, and the tag `{% generation %}`, which marks an answer and changes no
text. Left out is `lipsum`, which makes text of any length.

A template's run has limits (`template_meter`): the code that Jinja makes of it counts its steps and weighs what it
makes, and what one operation would make is judged before it does (`template_guards`).
"""

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import wraps
from types import BuiltinMethodType, MethodType
from typing import TypeAlias

from jinja2 import TemplateError, nodes, pass_eval_context
from jinja2.compiler import CodeGenerator, Frame
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import CallBlock, EvalContext, Node
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext, Macro, markup_join, str_join
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tunesmith.render.template_guards import (
    LIMITED_FILTERS,
    LIMITED_TESTS,
    check_call,
    check_format,
    check_operator,
    is_quick,
    limited_filter,
)
from tunesmith.render.template_meter import LimitedNamespace, TooMuch, check_held, concat, counted, made, meter

MOST_NODES = 8_000  # of its syntax tree; the largest in use have some 900
TIME_FORMATS, TIME_FORMAT_CHARS = 16, 200
_METHOD_TYPES = (MethodType, BuiltinMethodType)
_Visit: TypeAlias = Callable[..., object]
_OURS = frozenset(("_loop_vars", "_block_vars", "caller"))  # among the arguments of a call


class RefusedByTemplate(TemplateError):
    """What a template said through `raise_exception`."""


class _CountingGenerator(CodeGenerator):
    """Jinja's compiler, whose code counts what no method of the environment sees."""

    def visit(self, node: Node, *args: object, **named: object) -> object:
        visited: object = None
        if getattr(node, "iterated", False):
            self._inside("counted", node, super().visit, *args)
        else:
            visited = super().visit(node, *args, **named)
        return visited

    def visit_For(self, node: nodes.For, frame: Frame) -> None:
        node.iter.iterated = True  # type: ignore[attr-defined]
        super().visit_For(node, frame)

    def visit_Compare(self, node: nodes.Compare, frame: Frame) -> None:
        if _is_cheap(node):
            super().visit_Compare(node, frame)
            return
        self.write("(environment.step() or ")
        super().visit_Compare(node, frame)
        self.write(")")

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("environment.joined(context.eval_ctx, (")
        for one in node.nodes:
            self.visit(one, frame)
            self.write(", ")
        self.write("))")

    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:
        if isinstance(node.arg, nodes.Slice):
            self._inside("made", node, super().visit_Getitem, frame)
        else:
            super().visit_Getitem(node, frame)

    def visit_List(self, node: nodes.List, frame: Frame) -> None:
        self._made(node, super().visit_List, frame)

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:
        self._made(node, super().visit_Dict, frame)

    def visit_Tuple(self, node: nodes.Tuple, frame: Frame) -> None:
        if node.ctx == "load":
            self._made(node, super().visit_Tuple, frame)
        else:
            super().visit_Tuple(node, frame)

    def _made(self, node: Node, visit: _Visit, frame: Frame) -> None:
        if all(isinstance(one, nodes.Const) for one in node.iter_child_nodes()):
            visit(node, frame)
        else:
            self._inside("made", node, visit, frame)

    def _inside(self, method: str, node: Node, visit: _Visit, *args: object) -> None:
        self.write(f"environment.{method}(")
        visit(node, *args)
        self.write(")")


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """An environment for one template.

    It remembers how the template asked for the time."""

    code_generator_class = _CountingGenerator
    intercepted_binops = frozenset(("+", "*", "%", "**"))
    concat = staticmethod(concat)

    def __init__(self) -> None:
        extensions = [_GenerationTag, loopcontrols]
        super().__init__(  # nothing is computed while the template is compiled
            trim_blocks=True, lstrip_blocks=True, extensions=extensions, finalize=_weighed, optimized=False
        )
        self._time_formats: set[str] = set()
        del self.globals["lipsum"]
        self.globals["raise_exception"] = _refuse
        self.globals["strftime_now"] = self._strftime_now
        self.globals["dict"] = _new_dict
        self.globals["namespace"] = _new_namespace
        self.filters = {**LIMITED_FILTERS, "tojson": _TO_JSON}
        self.tests = dict(LIMITED_TESTS)
        self.made, self.counted = made, counted

    def _generate(
        self, source: nodes.Template, name: str | None, filename: str | None, defer_init: bool = False
    ) -> str:
        """Jinja's compiler takes a tenth of a millisecond for each node."""
        if sum(1 for _ in zip(source.find_all(Node), range(MOST_NODES + 1), strict=False)) > MOST_NODES:
            raise TooMuch(f"it has more than {MOST_NODES:,} parts")
        return super()._generate(source, name, filename, defer_init)

    def step(self) -> None:
        """Counts what the compiled code cannot count itself."""
        meter().step()

    def call(self, context: Context, function: Callable[..., object], /, *args: object, **named: object) -> object:
        """Calls what a template calls, within the limits."""
        if is_quick(function, args) and (not named or set(named) <= _OURS):
            return made(function(*args))
        if isinstance(function, LoopContext):  # of a recursive loop
            meter().step()
            args = tuple(counted(one) if isinstance(one, Iterable) else one for one in args)
        else:
            args = tuple(check_call(function, args))
            meter().weigh(*(value for name, value in named.items() if name not in _OURS))
        return made(super().call(context, function, *args, **named))

    def call_binop(self, context: Context, operator: str, left: object, right: object) -> object:
        """Applies an operator that may make a large value, within the limits."""
        if operator == "+" and type(left) is str and type(right) is str:
            meter().write(len(left) + len(right))
            return left + right
        check_operator(operator, left, right)
        return made(self.binop_table[operator](left, right))

    def joined(self, context: EvalContext, parts: Sequence[object]) -> str:
        """The text of `a ~ b`."""
        meter().write(sum(len(one) if isinstance(one, str) else meter().weigh(one).chars for one in parts))
        return markup_join(parts) if context.autoescape else str_join(parts)

    def wrap_str_format(self, value: object) -> Callable[..., str] | None:
        """Jinja's own `format` of a text, within the limits."""
        if type(value) not in _METHOD_TYPES:
            return None
        formatted = super().wrap_str_format(value)
        if formatted is None:
            return None
        text: str = getattr(value, "__self__", "")

        @wraps(formatted)
        def run(*args: object, **named: object) -> str:
            check_format(text, (*args, *named.values()))
            return formatted(*args, **named)

        return run

    def moment(self) -> tuple[str, ...]:
        """What the template would read as the time.

        A text made now is good for as long as this stays the same. Empty for a template that does not ask for it.
        """
        if not self._time_formats:
            return ()
        now = _now()
        return tuple(now.strftime(one) for one in sorted(self._time_formats))

    def _strftime_now(self, format: str) -> str:  # noqa: A002  (transformers' name)
        if len(format) > TIME_FORMAT_CHARS or len(self._time_formats | {format}) > TIME_FORMATS:
            raise TooMuch("asks for the time in ever new ways")
        self._time_formats.add(format)
        return _now().strftime(format)


def _now() -> datetime:
    return datetime.now()  # noqa: DTZ005  (local time without a zone, as transformers has it)


class _GenerationTag(Extension):
    tags = {"generation"}  # noqa: RUF012  (Jinja's own type)

    def parse(self, parser: Parser) -> Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return CallBlock(self.call_method("_text"), [], [], body).set_lineno(line)

    @staticmethod
    def _text(caller: Macro) -> str:
        return str(caller())


def _is_cheap(node: nodes.Compare) -> bool:
    """Whether it only compares with a constant."""
    compared = [node.expr, *(one.expr for one in node.ops)]
    kinds = {one.op for one in node.ops}
    return len(compared) == 2 and not kinds & {"in", "notin"} and any(isinstance(one, nodes.Const) for one in compared)


def _refuse(message: str) -> None:
    raise RefusedByTemplate(message)


def _new_dict(*values: dict[str, object], **named: object) -> dict[str, object]:
    return dict(*values, **named)


def _new_namespace(*values: dict[str, object], **named: object) -> LimitedNamespace:
    for value in (*values, *named.values()):
        check_held(value)
    return LimitedNamespace(*values, **named)


@pass_eval_context
def _weighed(_: EvalContext, value: object) -> object:
    """What is written, which becomes text at once."""
    if type(value) is not str:
        meter().step()
        meter().weigh(value)
    return value


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Unlike Jinja's own filter, without escapes for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


_TO_JSON = limited_filter("tojson", _to_json)
