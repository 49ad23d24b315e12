"""Two sides over the same rows: what was gained and lost, and how sure that is.

One criterion decides, chosen by what the file's answers are before any answer is seen; the p of the others is corrected
for their number (Holm).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Literal, TypeAlias

from tunesmith.evals.criteria import CRITERIA, EXACT, ROUGE, SAME_CALLS, SAME_JSON, Criterion, Reply
from tunesmith.evals.questions import Question
from tunesmith.evals.statistics import (
    ALPHA,
    FEW_CHANGES,
    LEAST_ROWS,
    Difference,
    Interval,
    holm,
    mcnemar,
    mean_score,
    paired_difference,
    rows_needed,
    score_difference,
    wilson,
)
from tunesmith.evals.wording import counted, too_few

Decision: TypeAlias = Literal["better", "worse", "closer", "further", "not decisive", "too few rows"]
WANTED = "the wanted wording"
DECIDED: dict[Decision, str] = {
    "better": "better",
    "worse": "worse",
    "closer": f"closer to {WANTED}",
    "further": f"further from {WANTED}",
}
SHORT_ANSWER = 5  # words: up to here an answer is a label, right or wrong
MAJORITY = 0.5  # of the references, to be called JSON or tool calls


@dataclass(frozen=True, slots=True)
class Table:
    """Rows by who has them right; only for criteria of right and wrong."""

    both: int
    gained: int
    lost: int
    neither: int

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Both, gained, lost, neither."""
        return self.both, self.gained, self.lost, self.neither

    @property
    def rows(self) -> int:
        """All of them."""
        return sum(self.counts)

    @property
    def few_changes(self) -> bool:
        """Whether nearly all rows were gained, or lost, or stayed as they were."""
        return self.rows - max(self.gained, self.lost, self.both + self.neither) < FEW_CHANGES


@dataclass(frozen=True, slots=True)
class Outcome:
    """One criterion for both sides; `p` is corrected unless the criterion decides."""

    criterion: Criterion
    rows: int
    conversations: int
    before: Interval
    after: Interval
    difference: Difference
    p: float
    table: Table | None
    decides: bool

    @property
    def decision(self) -> Decision:
        """What can be said at the 5 % level.

        A graded criterion measures how close the wording is, which need not be better.
        """
        mean = self.difference.mean.value
        if self.p >= ALPHA or not mean:
            return "too few rows" if self.conversations < LEAST_ROWS else "not decisive"
        if self.criterion.graded:
            return "closer" if mean > 0 else "further"
        return "better" if mean > 0 else "worse"

    @property
    def rows_needed(self) -> int | None:
        """About how many rows would decide a difference of the size seen.

        None where one can hardly be seen; `LEAST_ROWS` where there are fewer.
        """
        if self.conversations < LEAST_ROWS:
            return LEAST_ROWS
        return rows_needed(self.rows, self.difference.z)


def compare(questions: Sequence[Question], before: Sequence[Reply], after: Sequence[Reply]) -> list[Outcome]:
    """The outcome of every criterion that counts here, the deciding one first."""
    found = uncorrected(questions, before, after)
    corrected = holm({one.criterion.name: one.p for one in found if not one.decides})
    return [with_p(one, corrected.get(one.criterion.name, one.p)) for one in found]


def uncorrected(questions: Sequence[Question], before: Sequence[Reply], after: Sequence[Reply]) -> list[Outcome]:
    """As `compare`, with each criterion's p as if it were the only one."""
    deciding = deciding_criterion(questions)
    raw = (outcome(one, questions, before, after, decides=one is deciding) for one in CRITERIA)
    return sorted((one for one in raw if one is not None), key=lambda one: not one.decides)


def deciding_criterion(questions: Sequence[Question]) -> Criterion:
    """Tool calls or JSON where most references are that, else text or ROUGE-L.

    The text where most have at most `SHORT_ANSWER` words.
    """
    references = [one.reference for one in questions]
    for criterion in (SAME_CALLS, SAME_JSON):
        judged = sum(criterion.judge(one, one) is not None for one in references)
        if judged > MAJORITY * len(references):
            return criterion
    words = [len(one.text.split()) for one in references if not one.calls]
    return EXACT if words and median(words) <= SHORT_ANSWER else ROUGE


def outcome(
    criterion: Criterion,
    questions: Sequence[Question],
    before: Sequence[Reply],
    after: Sequence[Reply],
    *,
    decides: bool,
) -> Outcome | None:
    """What one criterion says of both sides; None where it has to do with no row."""
    firsts: list[float] = []
    seconds: list[float] = []
    lines: list[int] = []
    for question, first, second in zip(questions, before, after, strict=True):
        old, new = criterion.judge(first, question.reference), criterion.judge(second, question.reference)
        if old is not None and new is not None:
            firsts.append(old)
            seconds.append(new)
            lines.append(question.line)
    return _compared(criterion, (firsts, seconds), lines, decides=decides) if firsts else None


def _compared(
    criterion: Criterion, scores: tuple[list[float], list[float]], lines: Sequence[int], *, decides: bool
) -> Outcome:
    """The outcome of both sides' scores."""
    table = None if criterion.graded else _table(*scores)
    conversations = len(set(lines))
    one_each = conversations == len(lines)  # McNemar's coins are independent, rows of one conversation are not
    difference = paired_difference(*scores, lines)
    p = difference.p
    if table is not None and one_each:
        difference = replace(difference, mean=_interval(table, difference.mean))
        p = mcnemar(table.gained, table.lost)
        before, after = (wilson(int(sum(side)), len(side)) for side in scores)
    else:
        before, after = (mean_score(side, lines) for side in scores)
    return Outcome(criterion, len(lines), conversations, before, after, difference, p, table, decides)


def _interval(table: Table, bootstrapped: Interval) -> Interval:
    """The bootstrap's interval, unless nearly all rows say the same."""
    return score_difference(*table.counts) if table.few_changes and table.rows > 1 else bootstrapped


def _table(before: Sequence[float], after: Sequence[float]) -> Table:
    pairs = list(zip(before, after, strict=True))
    return Table(*(pairs.count(one) for one in ((1.0, 1.0), (0.0, 1.0), (1.0, 0.0), (0.0, 0.0))))


def with_p(one: Outcome, p: float) -> Outcome:
    """The outcome with a corrected p."""
    return replace(one, p=p)


def sentence(one: Outcome) -> str:
    """The outcome in plain words.

    `valid JSON 61 % -> 98 % on 200 rows (+37, 95 % interval +30 to +43): better`.
    """
    mean = one.difference.mean
    return (
        f"{one.criterion.name} {_percent(one.before.value)} -> {_percent(one.after.value)}"
        f" on {counted(one.rows, 'row')}"
        f" ({100 * mean.value:+.0f}, 95 % interval {100 * mean.low:+.0f} to {100 * mean.high:+.0f}): {_said(one)}"
    )


def wording_note(outcomes: Sequence[Outcome]) -> str | None:
    """What the deciding criterion does not look at; None of right and wrong."""
    deciding = next((one.criterion for one in outcomes if one.decides), None)
    if deciding is None or not deciding.graded:
        return None
    return f"{deciding.name} compares the wording with the file's answers and does not check facts"


def _said(one: Outcome) -> str:
    if one.decision in DECIDED:
        return DECIDED[one.decision]
    if one.decision == "too few rows":
        return too_few(one.conversations, one.rows)
    needed = one.rows_needed
    more = f"about {counted(needed, 'row')} needed" if needed is not None else "no difference to speak of"
    return f"not decisive, {more}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
