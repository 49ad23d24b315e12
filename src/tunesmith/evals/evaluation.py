"""The answers of both sides and what they say."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from tunesmith.errors import InvalidRequest
from tunesmith.evals.answers import Answer, Pair
from tunesmith.evals.comparison import Decision, Outcome, compare, sentence, wording_note
from tunesmith.evals.criteria import is_refusal
from tunesmith.evals.forgetting import Forgetting
from tunesmith.evals.measures import Measure, loss, loss_sentence, measures, perplexity
from tunesmith.evals.statistics import Interval
from tunesmith.jsonvalue import JsonObject
from tunesmith.models.adapters import NO_ADAPTER

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The answers of both sides and what they say.

    `left_out` are questions that one side could not be asked; `notes` are sentences about how it was done.
    """

    before: str
    after: str
    pairs: tuple[Pair, ...]
    left_out: tuple[tuple[int, str], ...]  # (line, reason)
    outcomes: tuple[Outcome, ...]
    loss: Measure | None = None
    measures: tuple[Measure, ...] = ()
    forgetting: Forgetting | None = None
    leaks: JsonObject | None = None
    notes: tuple[str, ...] = field(default=())
    recorded: "Evaluation | None" = None  # answers from a file, against the same side after
    max_tokens: int | None = None  # of an answer
    timed: bool = True  # whether length and time of both sides are known

    @property
    def verdict(self) -> Decision | None:
        """What the deciding criterion says; None where nothing was compared."""
        return self.outcomes[0].decision if self.outcomes else None

    @property
    def sentences(self) -> list[str]:
        """Every outcome in plain words, the deciding one first."""
        found = [sentence(one) for one in self.outcomes]
        found += [] if self.loss is None else [loss_sentence(self.loss)]
        return found if self.forgetting is None else [*found, self.forgetting.sentence]

    def to_json(self) -> JsonObject:
        """The whole evaluation, with every answer."""
        return {
            "object": "tunesmith.evaluation",
            "format_version": FORMAT_VERSION,
            "before": self.before,
            "after": self.after,
            "rows": len(self.pairs),
            "max_completion_tokens": self.max_tokens,
            "left_out": [{"line": line, "reason": reason} for line, reason in self.left_out],
            "verdict": self.verdict,
            "sentences": list(self.sentences),
            "notes": list(self.notes),
            "criteria": [outcome_json(one) for one in self.outcomes],
            "loss": None if self.loss is None else _loss_json(self.loss),
            "measures": [one.to_json() for one in self.measures],
            "forgetting": None if self.forgetting is None else self.forgetting.to_json(),
            "leaks": self.leaks,
            "recorded": None if self.recorded is None else self.recorded.to_json(),
            "sides": [self._side(self.before, 0), self._side(self.after, 1)],
            "samples": [one.to_json() for one in self.pairs],
        }

    def side(self, index: int) -> "Side":
        """The sums of one side: 0 is the one before, 1 the one after."""
        answers = [one.after if index else one.before for one in self.pairs]
        return Side(
            prompt_tokens=sum(one.prompt_tokens for one in answers),
            tokens=sum(one.tokens for one in answers),
            median_seconds=median([one.seconds for one in answers]) if answers else 0.0,
            refusals=sum(is_refusal(one.reply) for one in answers),
            cut=sum(one.cut for one in answers),
        )

    def _side(self, model: str, index: int) -> JsonObject:
        side = self.side(index)
        return {
            "model": model,
            "prompt_tokens": side.prompt_tokens,
            "completion_tokens": side.tokens,
            "median_seconds": round(side.median_seconds, 3),
            "refusals": side.refusals,
            "cut": side.cut,
        }


@dataclass(frozen=True, slots=True)
class Side:
    """What one side's answers took, and how many refuse or were cut at the limit."""

    prompt_tokens: int
    tokens: int
    median_seconds: float
    refusals: int
    cut: int


def evaluate(
    before: str, after: str, pairs: Sequence[Pair], left_out: Sequence[tuple[int, str]] = (), base: str | None = None
) -> Evaluation:
    """What the pairs say.

    `base`: the digest that the side before must have, `NO_ADAPTER` for a base. Raises InvalidRequest where the same
    weights answered on both sides, or others than `base` on the one before.
    """
    require_two_sides(pairs, before, after)
    if base is not None:
        _require_base(pairs, before, base)
    outcomes = compare(
        [one.question for one in pairs], [one.before.reply for one in pairs], [one.after.reply for one in pairs]
    )
    note = wording_note(outcomes)
    return Evaluation(
        before,
        after,
        tuple(pairs),
        tuple(left_out),
        tuple(outcomes),
        loss=loss(pairs),
        measures=measures(pairs),
        notes=() if note is None else (note,),
    )


def require_two_sides(pairs: Sequence[Pair], before: str, after: str) -> None:
    """Raises InvalidRequest where the same weights answered on both sides."""
    same = {one.before.fingerprint for one in pairs} & {one.after.fingerprint for one in pairs}
    if same:
        raise InvalidRequest(
            f"{before} and {after} were answered by the same weights ({', '.join(sorted(same))}): there is nothing to "
            "compare. Name another model with --against."
        )


def _require_base(pairs: Sequence[Pair], before: str, digest: str) -> None:
    others = sorted({_digest(one.before) for one in pairs} - {digest})
    if others:
        wanted = "the base alone" if digest == NO_ADAPTER else f"the weights {digest[:10]}"
        raise InvalidRequest(f"{before} was to be answered by {wanted}, but tuned weights did it: {', '.join(others)}.")


def _digest(answer: Answer) -> str:
    return "unknown weights" if answer.adapter is None else answer.adapter[:10]


def outcome_json(one: Outcome) -> JsonObject:
    """One criterion, with its table."""
    found: JsonObject = {
        "name": one.criterion.name,
        "decides": one.decides,
        "rows": one.rows,
        "conversations": one.conversations,
        "before": _interval(one.before),
        "after": _interval(one.after),
        "difference": _interval(one.difference.mean),
        "p": one.p,
        "decision": one.decision,
        "rows_needed": one.rows_needed,
    }
    if one.table is not None:
        table = one.table
        found["table"] = {"both": table.both, "gained": table.gained, "lost": table.lost, "neither": table.neither}
    return found


def _loss_json(one: Measure) -> JsonObject:
    return {**one.to_json(), "perplexity": {"before": perplexity(one.before), "after": perplexity(one.after)}}


def _interval(value: Interval) -> JsonObject:
    return {"value": value.value, "low": value.low, "high": value.high}
