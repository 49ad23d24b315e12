"""Which checkpoint of a job is the best?

Each is compared with the base on the same rows. The more checkpoints and criteria are looked at, the likelier one of
them seems better by chance: each p is corrected for all of them together (Holm). The best one's share is flattered all
the same, as it was chosen on these rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith.errors import InvalidRequest
from tunesmith.evals.answers import Answer, Pair
from tunesmith.evals.comparison import Outcome, outcome, sentence, uncorrected, with_p, wording_note
from tunesmith.evals.evaluation import outcome_json, require_two_sides
from tunesmith.evals.questions import Question
from tunesmith.evals.statistics import holm
from tunesmith.jsonvalue import JsonObject


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint's model, and its outcomes against the base: the deciding one first."""

    model: str
    step: int
    outcomes: tuple[Outcome, ...]

    @property
    def deciding(self) -> Outcome:
        """The outcome of the criterion that decides."""
        return self.outcomes[0]


@dataclass(frozen=True, slots=True)
class CheckpointComparison:
    """All checkpoints in the order of their steps, and the best of them.

    `lead`: the best after the runner-up, by the criterion that decides; None where there is only one checkpoint.
    """

    before: str
    rows: int
    checkpoints: tuple[Checkpoint, ...]
    best: Checkpoint
    runner_up: Checkpoint | None
    lead: Outcome | None

    @property
    def sentences(self) -> list[str]:
        """Which checkpoint is the best, beside the base and beside the next best."""
        best = self.best
        count = len(self.checkpoints)
        which = f"Best of {count} checkpoints" if count > 1 else "The only checkpoint"
        found = [f"{which}: {best.model} (step {best.step:,}), {sentence(best.deciding)}"]
        if self.runner_up is not None and self.lead is not None:
            found.append(f"Against the next best (step {self.runner_up.step:,}): {sentence(self.lead)}")
        note = wording_note(best.outcomes)
        return found if note is None else [*found, f"{note}."]

    def to_json(self) -> JsonObject:
        """Names, numbers and sentences, without the answers."""
        return {
            "object": "tunesmith.checkpoints",
            "before": self.before,
            "rows": self.rows,
            "best": self.best.model,
            "verdict": self.best.deciding.decision,
            "sentences": list(self.sentences),
            "lead": None if self.lead is None else outcome_json(self.lead),
            "checkpoints": [
                {"model": one.model, "step": one.step, "criteria": [outcome_json(two) for two in one.outcomes]}
                for one in self.checkpoints
            ],
        }


def compare_checkpoints(
    before: str,
    made: Sequence[tuple[str, int]],
    questions: Sequence[Question],
    base: Sequence[Answer],
    answers: Sequence[Sequence[Answer]],
) -> CheckpointComparison:
    """Compares checkpoints with the base, and the best of them with the others.

    `made`: (model, step) of each. `answers`: of each, in the questions' order. Raises InvalidRequest where the same
    weights answered on both sides, or nothing can be compared.
    """
    found = [
        Checkpoint(model, step, tuple(_outcomes(before, model, questions, base, own)))
        for (model, step), own in sorted(zip(made, answers, strict=True), key=lambda one: one[0][1])
    ]
    found = _corrected(found)
    best = max(found, key=_score)
    leads = _leads(best, found, questions, dict(zip((model for model, _ in made), answers, strict=True)))
    runner_up = max((one for one in found if one is not best), key=_score, default=None)
    lead = None if runner_up is None else leads[runner_up.model]
    return CheckpointComparison(before, len(questions), tuple(found), best, runner_up, lead)


def _outcomes(
    before: str, model: str, questions: Sequence[Question], base: Sequence[Answer], own: Sequence[Answer]
) -> list[Outcome]:
    pairs = [Pair(*one) for one in zip(questions, base, own, strict=True)]
    require_two_sides(pairs, before, model)
    found = uncorrected(questions, [one.reply for one in base], [one.reply for one in own])
    if not found or not found[0].decides:
        raise InvalidRequest("No criterion has to do with these rows: there is nothing to compare.")
    return found


def _corrected(found: Sequence[Checkpoint]) -> list[Checkpoint]:
    values = {(one.model, two.criterion.name): two.p for one in found for two in one.outcomes}
    corrected = holm(values)
    return [
        Checkpoint(
            one.model, one.step, tuple(with_p(two, corrected[one.model, two.criterion.name]) for two in one.outcomes)
        )
        for one in found
    ]


def _leads(
    best: Checkpoint, found: Sequence[Checkpoint], questions: Sequence[Question], answers: dict[str, Sequence[Answer]]
) -> dict[str, Outcome]:
    """The best after each other one, corrected for their number: it was not said before which is looked at."""
    criterion = best.deciding.criterion
    mine = [one.reply for one in answers[best.model]]
    raw = {
        one.model: outcome(criterion, questions, [two.reply for two in answers[one.model]], mine, decides=True)
        for one in found
        if one is not best
    }
    known = {model: one for model, one in raw.items() if one is not None}
    corrected = holm({model: one.p for model, one in known.items()})
    return {model: with_p(one, corrected[model]) for model, one in known.items()}


def _score(one: Checkpoint) -> tuple[float, int]:
    """Among equals the earliest: it has learned the file least by heart."""
    return one.deciding.after.value, -one.step
