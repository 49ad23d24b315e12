"""A job's evaluation as its file has it, read for a page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import orjson

from tunesmith.evals.criteria import ANSWERED, EXACT, ROUGE, SAME_CALLS, SAME_JSON, SHAPE, VALID_JSON, WORDS
from tunesmith.evals.statistics import Interval
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.web.views.evaluations.intervals import Scale, Whisker, around_zero, read_interval

SHARES = Scale(0.0, 1.0)
CRITERION_KEYS = {
    SAME_CALLS.name: "calls",
    SAME_JSON.name: "json_value",
    VALID_JSON.name: "valid_json",
    SHAPE.name: "json_shape",
    EXACT.name: "text",
    WORDS.name: "words",
    ROUGE.name: "rouge",
    ANSWERED.name: "answered",
}  # in the pages' texts
MEASURE_KEYS = {"loss": "loss", "answer length": "length", "time to answer": "time"}
KINDS = ("arithmetic", "facts", "words", "reading", "order", "form")


class NoEvaluation(Exception):
    """The file is none that this page can show."""


class _Named:
    """What has a name that the pages may have a text for."""

    __slots__ = ()
    KEYS: ClassVar[Mapping[str, str]]
    name: str

    @property
    def key(self) -> str:
        """Its name among the pages' texts, "" of one that they do not know."""
        return self.KEYS.get(self.name, "")


@dataclass(frozen=True, slots=True)
class Criterion(_Named):
    """One criterion for both sides, with its drawings.

    `table`: both, gained, lost, neither; None of graded ones.
    """

    name: str
    decides: bool
    rows: int
    before: Interval
    after: Interval
    difference: Interval
    p: float
    decision: str
    rows_needed: int | None
    table: Mapping[str, int] | None
    drawn_before: Whisker
    drawn_after: Whisker
    drawn_difference: Whisker
    KEYS: ClassVar[Mapping[str, str]] = CRITERION_KEYS


@dataclass(frozen=True, slots=True)
class Measured(_Named):
    """A mean of each side, such as the loss or the time to answer."""

    name: str
    unit: str
    size: int
    before: float
    after: float
    difference: Interval
    p: float
    KEYS: ClassVar[Mapping[str, str]] = MEASURE_KEYS


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of the general questions."""

    name: str
    rows: int
    before: int
    after: int

    @property
    def known(self) -> bool:
        """Whether the pages have a text for it."""
        return self.name in KINDS


@dataclass(frozen=True, slots=True)
class Forgot:
    """The probe for forgetting."""

    found: bool
    rows: int
    before: float
    after: float
    difference: Interval
    p: float
    kinds: tuple[Kind, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Everything of the file but its answers, which are `samples`."""

    before: str
    after: str
    rows: int
    verdict: str | None
    sentences: tuple[str, ...]
    notes: tuple[str, ...]
    left_out: int
    criteria: tuple[Criterion, ...]
    zero: float  # where no difference is drawn
    reach: float  # the difference at the drawing's right end
    measures: tuple[Measured, ...]
    perplexity: tuple[float, float] | None
    forgetting: Forgot | None
    leaks: JsonObject | None
    sides: tuple[JsonObject, ...]
    samples: Sequence[JsonObject]

    @property
    def deciding(self) -> Criterion | None:
        """The criterion that the verdict is about."""
        return self.criteria[0] if self.criteria else None


def read_verdict(content: bytes) -> Verdict:
    """The evaluation in the bytes of its file. Raises NoEvaluation."""
    try:
        found = orjson.loads(content)
        if not isinstance(found, dict) or found.get("object") != "tunesmith.evaluation":
            raise NoEvaluation
        return _verdict(found)
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise NoEvaluation from error


def _verdict(found: JsonObject) -> Verdict:
    criteria = _objects(found["criteria"])
    scale = around_zero([read_interval(one["difference"]) for one in criteria])
    loss = cast("JsonObject | None", found["loss"])
    doubt = None if loss is None else cast("dict[str, float]", loss["perplexity"])
    return Verdict(
        before=str(found["before"]),
        after=str(found["after"]),
        rows=cast(int, found["rows"]),
        verdict=cast("str | None", found["verdict"]),
        sentences=tuple(map(str, cast("list[str]", found["sentences"]))),
        notes=tuple(map(str, cast("list[str]", found["notes"]))),
        left_out=len(_objects(found["left_out"])),
        criteria=tuple(_criterion(one, scale) for one in criteria),
        zero=scale.at(0.0),
        reach=scale.end,
        measures=tuple(_measured(one) for one in ([] if loss is None else [loss]) + _objects(found["measures"])),
        perplexity=None if doubt is None else (float(doubt["before"]), float(doubt["after"])),
        forgetting=_forgot(cast("JsonObject | None", found["forgetting"])),
        leaks=cast("JsonObject | None", found["leaks"]),
        sides=tuple(_objects(found["sides"])),
        samples=_objects(found["samples"]),
    )


def _criterion(one: JsonObject, scale: Scale) -> Criterion:
    before, after, difference = (read_interval(one[name]) for name in ("before", "after", "difference"))
    return Criterion(
        name=str(one["name"]),
        decides=bool(one["decides"]),
        rows=cast(int, one["rows"]),
        before=before,
        after=after,
        difference=difference,
        p=cast(float, one["p"]),
        decision=str(one["decision"]),
        rows_needed=cast("int | None", one["rows_needed"]),
        table=cast("dict[str, int] | None", one.get("table")),
        drawn_before=SHARES.draw(before),
        drawn_after=SHARES.draw(after),
        drawn_difference=scale.draw(difference),
    )


def _measured(one: JsonObject) -> Measured:
    return Measured(
        name=str(one["name"]),
        unit=str(one["unit"]),
        size=cast(int, one["size"]),
        before=cast(float, one["before"]),
        after=cast(float, one["after"]),
        difference=read_interval(one["difference"]),
        p=cast(float, one["p"]),
    )


def _forgot(one: JsonObject | None) -> Forgot | None:
    if one is None:
        return None
    kinds = tuple(
        Kind(str(kind["kind"]), cast(int, kind["rows"]), cast(int, kind["before"]), cast(int, kind["after"]))
        for kind in _objects(one["kinds"])
    )
    return Forgot(
        found=bool(one["found"]),
        rows=cast(int, one["rows"]),
        before=cast(float, one["before"]),
        after=cast(float, one["after"]),
        difference=read_interval(one["difference"]),
        p=cast(float, one["p"]),
        kinds=kinds,
    )


def _objects(value: JsonValue) -> list[JsonObject]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
