"""All regular expressions of the source, found by reading it, and texts that are hard for them."""

import ast
import importlib
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from re import _constants as ops
from re import _parser as parser
from typing import TypeAlias

import tunesmith

SOURCE = Path(tunesmith.__file__).parent
METHODS = ("search", "match", "fullmatch", "findall", "finditer", "sub", "subn", "split")
WHOLE = {"match", "fullmatch"}  # begin at one place only
Pattern: TypeAlias = re.Pattern[str] | re.Pattern[bytes]
Uses: TypeAlias = defaultdict[tuple[Path | None, str], set[str]]  # file (None: any) and name -> methods
OPPOSITES = {ops.CATEGORY_DIGIT: "0", ops.CATEGORY_SPACE: " \n", ops.CATEGORY_WORD: "a_"}
MOST_CHARS, MOST_TEXTS = 8, 100


@dataclass(frozen=True, slots=True)
class Found:
    where: str  # file and name, or file and call
    pattern: Pattern
    methods: frozenset[str]

    def run(self, text: str) -> None:
        """What the source does with it; a pattern that is only matched is not searched for."""
        subject: str | bytes = text.encode() if isinstance(self.pattern.pattern, bytes) else text
        anchored = self.methods <= WHOLE
        for method in self.methods & WHOLE if anchored else ["finditer"]:
            found = getattr(self.pattern, method)(subject)
            if not anchored:
                for _ in found:
                    pass


def source_files() -> list[str]:
    """The files that may have patterns, in `Found.where`'s words."""
    return [str(path.relative_to(SOURCE)) for path in sorted(SOURCE.rglob("*.py")) if "import re\n" in path.read_text()]


def all_patterns() -> tuple[list[Found], list[str]]:
    """The patterns, and the calls whose pattern is known only when they run."""
    uses: Uses = defaultdict(set)
    using: dict[Path, list[ast.AST]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        nodes = [*ast.walk(ast.parse(path.read_text()))]
        _add_uses(path, nodes, uses)
        if _imports_re(nodes):
            using[path] = nodes
    found: list[Found] = []
    unknown: list[str] = []
    for path, nodes in using.items():
        where = str(path.relative_to(SOURCE))
        module = importlib.import_module(".".join(("tunesmith", *path.relative_to(SOURCE).with_suffix("").parts)))
        for name, value in vars(module).items():
            for pattern, place in _inside(value, name):
                methods = frozenset(uses[path, place] or uses[None, place] or {"search"})
                found.append(Found(f"{where} {name}", pattern, methods))
        _add_calls(where, nodes, vars(module), found, unknown)
    return found, unknown


def _add_calls(
    where: str, nodes: Sequence[ast.AST], names: Mapping[str, object], found: list[Found], unknown: list[str]
) -> None:
    known = {one.pattern.pattern for one in found}
    for call in _calls(nodes):
        shown = f"{where} {ast.unparse(call.args[0])}"
        method = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        try:
            value = eval(ast.unparse(call.args[0]), dict(names))
        except NameError:  # of something local
            unknown.append(shown)
            continue
        if value not in known and method != "compile":
            found.append(Found(shown, re.compile(value), frozenset({method})))
        elif value not in known:
            unknown.append(shown)


def hard_texts(pattern: Pattern, length: int) -> Iterator[str]:
    """Long runs of what the pattern knows, after each of its beginnings, with ends that do not fit."""
    tree = parser.parse(pattern.pattern, pattern.flags & ~re.UNICODE & ~re.LOCALE)
    chars = [*dict.fromkeys([*_chars(tree), *"a0 .\\\n"])]
    chars = chars[:MOST_CHARS] + [one for one in "a0 " if one not in chars[:MOST_CHARS]]
    units = [*chars, *(one + other for one in chars[:4] for other in chars[:4] if one != other), *_samples(tree)]
    starts = ["", *_starts(tree)]
    made = 0
    for unit in dict.fromkeys(units):
        for start in dict.fromkeys(starts):
            for end in ("", "\0") if start else ("\0",):
                if unit and made < MOST_TEXTS:
                    made += 1
                    yield start + unit * max(1, length // len(unit)) + end


def _imports_re(nodes: Sequence[ast.AST]) -> bool:
    return any(isinstance(node, ast.Import) and any(one.name == "re" for one in node.names) for node in nodes)


def _calls(nodes: Sequence[ast.AST]) -> Iterator[ast.Call]:
    for node in nodes:
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "re"
            and node.func.attr in (*METHODS, "compile")
        ):
            yield node


def _add_uses(path: Path, nodes: Sequence[ast.AST], uses: Uses) -> None:
    """The methods that are called on a name or, with a dot before it, on a field; in a file and (None) in any."""
    for node in nodes:
        if isinstance(node, ast.Attribute) and node.attr in METHODS and isinstance(node.value, ast.Name):
            for place in (path, None):
                uses[place, node.value.id].add(node.attr)
        elif isinstance(node, ast.Attribute) and node.attr in METHODS and isinstance(node.value, ast.Attribute):
            uses[path, f".{node.value.attr}"].add(node.attr)


def _inside(value: object, name: str) -> Iterator[tuple[Pattern, str]]:
    """The patterns in a value, each with the name or the field that it is used by."""
    fields = [] if isinstance(value, type) else getattr(value, "_fields", getattr(value, "__dataclass_fields__", ()))
    if isinstance(value, re.Pattern):
        yield value, name
    elif fields:
        for field in fields:
            yield from _inside(getattr(value, field, None), f".{field}")
    elif isinstance(value, dict):
        for one in (*value, *value.values()):
            yield from _inside(one, name)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _inside(one, name)


def _chars(tree: Sequence[tuple[object, object]]) -> Iterator[str]:
    for op, value in tree:
        if op in (ops.LITERAL, ops.NOT_LITERAL) and isinstance(value, int):
            yield chr(value) if op is ops.LITERAL else chr(value ^ 1)
        elif op is ops.IN and isinstance(value, list):
            yield from _of_class(value)
        else:
            for part in _parts(value):
                yield from _chars(part)


def _of_class(items: Sequence[tuple[object, object]]) -> Iterator[str]:
    if items and items[0][0] is ops.NEGATE:
        taken = {*_of_class(items[1:])}
        yield from [one for one in "a0 !\n" if one not in taken][:2]
        return
    for op, value in items:
        if op is ops.LITERAL and isinstance(value, int):
            yield chr(value)
        elif op is ops.RANGE and isinstance(value, tuple):
            yield chr(value[0])
        elif op is ops.CATEGORY:
            yield from OPPOSITES.get(value, "!")


def _parts(value: object) -> Iterator[Sequence[tuple[object, object]]]:
    if isinstance(value, parser.SubPattern):
        yield value
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _parts(one)


def _samples(tree: Sequence[tuple[object, object]]) -> Iterator[str]:
    """A text that fits the whole, and one for each part that repeats."""
    yield _sample(tree)
    for _, value in tree:
        for part in _parts(value):
            yield from _samples(part)


def _starts(tree: Sequence[tuple[object, object]]) -> Iterator[str]:
    """Texts that fit the first parts."""
    for count in range(1, len(tree)):
        yield _sample(tree[:count])
    if len(tree) == 1:
        for part in _parts(tree[0][1]):
            yield from _starts(part)


def _sample(tree: Sequence[tuple[object, object]]) -> str:
    text = ""
    for op, value in tree:
        if op is ops.LITERAL and isinstance(value, int):
            text += chr(value)
        elif op in (ops.IN, ops.NOT_LITERAL, ops.ANY):
            text += next(_chars([(op, value)]), "a")
        elif op in (ops.MAX_REPEAT, ops.MIN_REPEAT, ops.POSSESSIVE_REPEAT) and isinstance(value, tuple):
            text += _sample(value[2]) * max(1, int(value[0]))
        elif op not in (ops.ASSERT, ops.ASSERT_NOT, ops.AT):
            text += _sample(next(_parts(value), []))
    return text
