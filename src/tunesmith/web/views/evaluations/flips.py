"""Answers that a criterion judges differently, side by side.

The largest change comes first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

from tunesmith.evals.criteria import CRITERIA, Reply
from tunesmith.jsonvalue import JsonObject, JsonValue

Kind: TypeAlias = Literal["gained", "lost", "same"]
KINDS: tuple[Kind, ...] = ("gained", "lost", "same")
PAGE = 8
JUDGES = {one.name: one.judge for one in CRITERIA}
MOST_SHOWN = 20_000  # characters of a text


@dataclass(frozen=True, slots=True)
class Side:
    """What one side answered, and what it took. `score`: by the criterion."""

    text: str
    score: float | None
    tokens: int
    seconds: float
    cut: bool


@dataclass(frozen=True, slots=True)
class Flip:
    """A question with both answers.

    `asked`: its last message; `earlier`: (role, text) of those before.
    """

    line: int
    asked: str
    earlier: tuple[tuple[str, str], ...]
    reference: str
    before: Side
    after: Side

    @property
    def change(self) -> float:
        """What was gained, below zero where it was lost."""
        return (self.after.score or 0.0) - (self.before.score or 0.0)


@dataclass(frozen=True, slots=True)
class Flips:
    """One page of one kind of them, and how many there are of each."""

    criterion: str
    kind: Kind
    counts: Mapping[Kind, int]
    page: int
    pages: int
    shown: tuple[Flip, ...]


def flips(samples: Sequence[JsonObject], criterion: str, kind: str | None, page: int) -> Flips:
    """The page of a kind; by default the first kind that there are any of."""
    judged = [(sample, *_scores(sample, criterion)) for sample in samples]
    groups: dict[Kind, list[tuple[JsonObject, float | None, float | None]]] = {one: [] for one in KINDS}
    for one in judged:
        change = (one[2] or 0.0) - (one[1] or 0.0)
        groups["same" if not change else "gained" if change > 0 else "lost"].append(one)
    for name in KINDS:
        groups[name].sort(key=lambda one: -abs((one[2] or 0.0) - (one[1] or 0.0)))
    order: list[Kind] = [*(one for one in KINDS if one == kind), *(one for one in KINDS if groups[one]), "gained"]
    chosen = order[0]
    pages = max(1, -(-len(groups[chosen]) // PAGE))
    at = min(max(1, page), pages)
    shown = tuple(_flip(*one) for one in groups[chosen][(at - 1) * PAGE : at * PAGE])
    return Flips(criterion, chosen, {one: len(groups[one]) for one in KINDS}, at, pages, shown)


def _scores(sample: JsonObject, criterion: str) -> tuple[float | None, float | None]:
    judge, reference = JUDGES.get(criterion), _reply(sample["reference"])
    if judge is None:
        return None, None
    return judge(_reply(sample["before"]), reference), judge(_reply(sample["after"]), reference)


def _flip(sample: JsonObject, before: float | None, after: float | None) -> Flip:
    messages = [one for one in cast("list[JsonValue]", sample["messages"]) if isinstance(one, dict)]
    texts = [(str(one.get("role", "")), _shown(text_of(one))) for one in messages]
    return Flip(
        line=cast(int, sample["line"]),
        asked=texts[-1][1] if texts else "",
        earlier=tuple(texts[:-1]),
        reference=_shown(_spelled(_reply(sample["reference"]))),
        before=_side(cast(JsonObject, sample["before"]), before),
        after=_side(cast(JsonObject, sample["after"]), after),
    )


def _side(answer: JsonObject, score: float | None) -> Side:
    return Side(
        text=_shown(_spelled(_reply(answer))),
        score=score,
        tokens=cast(int, answer["completion_tokens"]),
        seconds=cast(float, answer["seconds"]),
        cut=bool(answer["cut"]),
    )


def text_of(message: Mapping[str, JsonValue]) -> str:
    """A message's text.

    Other parts are named by their kind, tool calls as they would be called.
    """
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    texts = [content] if isinstance(content, str) else []
    texts += [str(one.get("text") or f"[{one.get('type')}]") for one in parts if isinstance(one, dict)]
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else []:
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            texts.append(f"{function.get('name')}({function.get('arguments')})")
    return "\n".join(texts)


def _reply(value: JsonValue) -> Reply:
    found = cast(JsonObject, value)
    calls = cast("list[dict[str, str]]", found["tool_calls"])
    return Reply(str(found["text"]), tuple((str(one["name"]), str(one["arguments"])) for one in calls))


def _spelled(reply: Reply) -> str:
    return "\n".join([reply.text, *(f"{name}({arguments})" for name, arguments in reply.calls)]).strip()


def _shown(text: str) -> str:
    return text if len(text) <= MOST_SHOWN else text[:MOST_SHOWN] + "…"
