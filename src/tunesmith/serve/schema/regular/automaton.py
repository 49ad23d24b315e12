"""A term as an automaton, and an automaton as a pattern.

States are Brzozowski derivatives ("Derivatives of Regular Expressions", 1964); the pattern comes from eliminating them.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache

from tunesmith.serve.schema.regular.terms import Ranges, Term, Unreadable

MAX_STATES = 300
MAX_STEPS = 10_000  # derivatives of parts in one language; they take about 0.1 s
MAX_PATTERN = 20_000  # characters; llguidance has limits of its own

_steps_left: ContextVar[list[int] | None] = ContextVar("steps_left", default=None)


@contextmanager
def limited_steps(steps: int) -> Iterator[None]:
    """Within, all languages together may take so many derivatives."""
    token = _steps_left.set([steps])
    try:
        yield
    finally:
        _steps_left.reset(token)


def spelled(term: Term) -> str | None:
    """A pattern, from `^` to `$`, for exactly the texts of the term.

    None where there is no such text. Raises Unreadable where it would be too long, or take too many steps.
    """
    left = _steps_left.get()
    if left is not None and left[0] <= 0:
        raise Unreadable("patterns that take this long to compare")
    found, steps = _spelled(term)
    if left is not None:
        left[0] -= steps
    if isinstance(found, Unreadable):
        raise Unreadable(str(found))
    return found


@lru_cache(maxsize=256)
def _spelled(term: Term) -> tuple[str | Unreadable | None, int]:
    """The pattern or why there is none, and the steps that it took."""
    automaton = _Automaton(term)
    try:
        automaton.explore()
        found: str | Unreadable | None = automaton.pattern()
    except Unreadable as error:
        found = error
    return found, automaton.steps()


@lru_cache(maxsize=4096)
def matches(term: Term, text: str) -> bool:
    """Whether `text` is one of the term's."""
    return _Automaton(term).accepts(text)


@dataclass(frozen=True, slots=True, eq=False)
class _Node:
    """A term that is made once, so that equal ones are the same."""

    number: int
    kind: str
    parts: "tuple[_Node, ...]"
    ranges: Ranges = ()


class _Nodes:
    """Makes nodes in one form: `or` and `and` in one order and without what changes nothing."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, tuple[int, ...], Ranges], _Node] = {}
        self.none = self._node("none")
        self.empty = self._node("empty")
        self.all = self._node("not", (self.none,))

    def of(self, term: Term) -> _Node:
        kind = term.kind
        if kind == "chars":
            return self._node(kind, (), term.ranges)
        parts = tuple(map(self.of, term.parts))
        match kind:
            case "seq":
                return self.sequence(*parts)
            case "or" | "and":
                return self.joined(kind, parts)
            case "not":
                return self.negated(parts[0])
        return self._node(kind, parts)

    def sequence(self, *parts: _Node) -> _Node:
        flat: list[_Node] = []
        for part in parts:
            if part is self.none:
                return self.none
            flat += part.parts if part.kind == "seq" else () if part is self.empty else (part,)
        return self.empty if not flat else flat[0] if len(flat) == 1 else self._node("seq", tuple(flat))

    def joined(self, kind: str, parts: tuple[_Node, ...]) -> _Node:
        flat = {inner for part in parts for inner in (part.parts if part.kind == kind else (part,))}
        neutral, final = (self.none, self.all) if kind == "or" else (self.all, self.none)
        if final in flat:
            return final
        flat.discard(neutral)
        if not flat:
            return neutral
        ordered = sorted(flat, key=lambda node: node.number)
        return ordered[0] if len(ordered) == 1 else self._node(kind, tuple(ordered))

    def negated(self, part: _Node) -> _Node:
        return part.parts[0] if part.kind == "not" else self._node("not", (part,))

    def _node(self, kind: str, parts: tuple[_Node, ...] = (), ranges: Ranges = ()) -> _Node:
        key = (kind, tuple(part.number for part in parts), ranges)
        if key not in self._made:
            self._made[key] = _Node(len(self._made), kind, parts, ranges)
        return self._made[key]


class _Automaton:
    def __init__(self, term: Term) -> None:
        self._nodes = _Nodes()
        self._derived: dict[tuple[_Node, int, bool], _Node] = {}
        self._edges: list[dict[int, set[int]]] = []
        self._final: list[bool] = []
        self._first = self._nodes.of(term)
        self._atoms = _atoms(term)

    def steps(self) -> int:
        return len(self._derived)

    def accepts(self, text: str) -> bool:
        node, start = self._first, True
        for char in text:
            node, start = self._derive(node, ord(char), start), False
        return _nullable(node, start, end=True)

    def explore(self) -> None:
        numbers: dict[tuple[_Node, bool], int] = {(self._first, True): 0}
        pending = [(self._first, True)]
        for node, start in pending:
            edges: dict[int, set[int]] = defaultdict(set)
            for index, atom in enumerate(self._atoms):
                state = (self._derive(node, atom[0][0], start), False)
                if state not in numbers:
                    numbers[state] = len(numbers)
                    pending.append(state)
                edges[numbers[state]].add(index)
            if len(numbers) > MAX_STATES:
                raise Unreadable("a language of too many states")
            self._edges.append(edges)
            self._final.append(_nullable(node, start, end=True))

    def _derive(self, node: _Node, code: int, start: bool) -> _Node:
        key = (node, code, start)
        if key not in self._derived:
            if len(self._derived) > MAX_STEPS:
                raise Unreadable("a language of too many states")
            self._derived[key] = self._derivative(node, code, start)
        return self._derived[key]

    def _derivative(self, node: _Node, code: int, start: bool) -> _Node:
        parts = node.parts
        match node.kind:
            case "chars":
                return self._nodes.empty if any(low <= code <= high for low, high in node.ranges) else self._nodes.none
            case "seq":
                return self._of_sequence(parts, code, start)
            case "or" | "and":
                return self._nodes.joined(node.kind, tuple(self._derive(part, code, start) for part in parts))
            case "not":
                return self._nodes.negated(self._derive(parts[0], code, start))
            case "star":
                return self._nodes.sequence(self._derive(parts[0], code, start), node)
        return self._nodes.none

    def _of_sequence(self, parts: tuple[_Node, ...], code: int, start: bool) -> _Node:
        """The first part may be over, and then the second, and so on."""
        found: list[_Node] = []
        for index, part in enumerate(parts):
            found.append(self._nodes.sequence(self._derive(part, code, start), *parts[index + 1 :]))
            if not _nullable(part, start, end=False):
                break
        return self._nodes.joined("or", tuple(found))

    def pattern(self) -> str | None:
        classes = _minimal(self._edges, self._final)
        graph = _Graph(self._atoms)
        for state, edges in enumerate(self._edges):
            for target, atoms in edges.items():
                graph.meet(classes[state], classes[target], atoms)
            if self._final[state]:
                graph.end(classes[state])
        found = graph.eliminated(classes[0])
        return None if found is None else f"^(?:{found})$"


def _atoms(term: Term) -> list[Ranges]:
    """The characters in groups that the term does not tell apart."""
    marks = {0, 0xE000}
    sets = list(_sets(term))
    for ranges in sets:
        for low, high in ranges:
            marks |= {low, high + 1}
    bounds = [*sorted(mark for mark in marks if mark <= 0x10FFFF), 0x110000]
    groups: dict[tuple[bool, ...], list[tuple[int, int]]] = defaultdict(list)
    for low, after in itertools.pairwise(bounds):
        if not 0xD800 <= low <= 0xDFFF:
            high = min(after - 1, 0xD7FF) if low < 0xD800 else after - 1
            groups[tuple(any(a <= low <= b for a, b in ranges) for ranges in sets)].append((low, high))
    return [tuple(group) for group in groups.values()]


def _sets(term: Term) -> Iterator[Ranges]:
    pending, seen = [term], set[Term]()
    while pending:
        one = pending.pop()
        if one in seen:
            continue
        seen.add(one)
        if one.kind == "chars":
            yield one.ranges
        pending += one.parts


def _nullable(node: _Node, start: bool, *, end: bool) -> bool:
    """Whether the empty text is one of the node's, at the start or the end of the whole text."""
    match node.kind:
        case "empty" | "star":
            return True
        case "start":
            return start
        case "end":
            return end
        case "seq" | "and":
            return all(_nullable(part, start, end=end) for part in node.parts)
        case "or":
            return any(_nullable(part, start, end=end) for part in node.parts)
    return node.kind == "not" and not _nullable(node.parts[0], start, end=end)


def _minimal(edges: list[dict[int, set[int]]], final: list[bool]) -> list[int]:
    """A number for each state, the same for those that cannot be told apart."""
    classes = [int(one) for one in final]
    while True:
        looks = [
            (classes[state], frozenset((classes[target], atom) for target, atoms in out.items() for atom in atoms))
            for state, out in enumerate(edges)
        ]
        numbers = {look: number for number, look in enumerate(dict.fromkeys(looks))}
        refined = [numbers[look] for look in looks]
        if len(numbers) == len(set(classes)):
            return refined
        classes = refined


class _Graph:
    """States with patterns on the ways between them; -1 is the end."""

    def __init__(self, atoms: list[Ranges]) -> None:
        self._atoms = atoms
        self._sets: dict[tuple[int, int], set[int]] = defaultdict(set)
        self._ways: dict[int, dict[int, str]] = defaultdict(dict)

    def meet(self, source: int, target: int, atoms: set[int]) -> None:
        self._sets[source, target] |= atoms

    def end(self, source: int) -> None:
        self._ways[source][-1] = ""

    def eliminated(self, first: int) -> str | None:
        for (source, target), atoms in self._sets.items():
            self._ways[source][target] = _class(sorted(pair for atom in atoms for pair in self._atoms[atom]))
        self._ways[-2] = {first: ""}
        alive = self._useful()
        self._ways = defaultdict(
            dict,
            {s: {t: way for t, way in out.items() if t in alive} for s, out in self._ways.items() if s in alive},
        )
        while left := [state for state in self._ways if state >= 0]:
            self._remove(min(left, key=self._weight))
        return self._ways[-2].get(-1)

    def _useful(self) -> set[int]:
        alive = {-1, -2}
        while more := {s for s, out in self._ways.items() if s not in alive and not alive.isdisjoint(out)}:
            alive |= more
        return alive

    def _weight(self, state: int) -> float:
        into = [out[state] for source, out in self._ways.items() if source != state and state in out]
        away = [way for target, way in self._ways[state].items() if target != state]
        return sum(map(len, into)) * max(1, len(away)) + sum(map(len, away)) * max(1, len(into)) or math.inf

    def _remove(self, state: int) -> None:
        away = self._ways.pop(state)
        loop = away.pop(state, None)
        around = f"(?:{loop})*" if loop else ""
        for out in self._ways.values():
            if (into := out.pop(state, None)) is None:
                continue
            for target, way in away.items():
                through = f"{_grouped(into)}{around}{_grouped(way)}"
                out[target] = f"{out[target]}|{through}" if target in out else through
                if len(out[target]) > MAX_PATTERN:
                    raise Unreadable("a language whose pattern is too long")


def _grouped(way: str) -> str:
    return f"(?:{way})" if "|" in way else way


def _class(ranges: list[tuple[int, int]]) -> str:
    merged: list[tuple[int, int]] = []
    for low, high in ranges:
        if merged and merged[-1][1] + 1 == low:
            merged[-1] = (merged[-1][0], high)
        else:
            merged.append((low, high))
    inner = "".join(_char(low) if low == high else f"{_char(low)}-{_char(high)}" for low, high in merged)
    return f"[{inner}]"


def _char(code: int) -> str:
    return chr(code) if code < 128 and chr(code).isalnum() else f"\\x{{{code:X}}}"
