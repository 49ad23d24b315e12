"""How an evaluation looks in a terminal, and as a page with answers side by side."""

from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

from rich.markup import escape

from tunesmith.cli.output.html_report import environment
from tunesmith.cli.output.terminal import listing, note, out, plural, print_json
from tunesmith.evals.answers import Pair
from tunesmith.evals.comparison import DECIDED, Decision, Outcome, sentence
from tunesmith.evals.criteria import Reply
from tunesmith.evals.evaluation import Evaluation
from tunesmith.evals.measures import loss_sentence
from tunesmith.evals.recorded import recorded_reply
from tunesmith.evals.statistics import Interval
from tunesmith.jsonvalue import JsonObject

COLOURS: dict[Decision, str] = {
    "better": "green",
    "worse": "red",
    "closer": "cyan",
    "further": "yellow",
    "not decisive": "yellow",
    "too few rows": "yellow",
}
SHOWN = {  # columns and their titles
    "name": "criterion",
    "before": "before",
    "after": "after",
    "change": "change",
    "gained": "gained",
    "lost": "lost",
    "p": "p",
    "decision": "verdict",
}
MOST_LISTED = 100  # pairs of each kind in the page
FEW_ROWS = 30


@dataclass(frozen=True, slots=True)
class Listed:
    """Pairs of answers under one heading of the page.

    `count` may be more than are listed.
    """

    title: str
    pairs: list[Pair]
    count: int


@dataclass(frozen=True, slots=True)
class Part:
    """One comparison of the page: sentences with their decisions, and the table."""

    found: Evaluation
    headline: str
    sentences: list[tuple[str, str]]
    table: list[JsonObject]
    sides: str


def print_evaluation(found: Evaluation, *, as_json: bool) -> None:
    """Prints the verdict, a table of criteria, and what the two sides took."""
    if as_json:
        shown = found.to_json()
        for part in (shown, shown["recorded"]):
            if isinstance(part, dict):
                part.pop("samples")
        print_json(shown)
        return
    _say_left_out(found)
    for one in (found, found.recorded):
        if one is not None and one.outcomes:
            _print(one)


def _print(found: Evaluation) -> None:
    deciding = found.outcomes[0]
    colour = COLOURS[deciding.decision]
    out().print(f"[bold {colour}]{escape(_headline(found))}[/]", soft_wrap=True)
    out().print(escape(sentence(deciding)), soft_wrap=True)
    for note_ in found.notes:
        out().print(escape(note_), soft_wrap=True)
    out().print()
    out().print(_table(found), crop=False)
    if found.forgetting is not None:
        colour = "red" if found.forgetting.found else "default"
        out().print(f"[{colour}]{escape(found.forgetting.sentence)}[/]", soft_wrap=True)
    if found.timed:
        out().print(escape(_sides(found)), soft_wrap=True)


def evaluation_html(found: Evaluation) -> str:
    """A whole HTML document, with everything from the answers escaped."""
    return (
        environment()
        .get_template("evaluation.html")
        .render(
            found=found,
            headline=_headline(found),
            parts=[_part(one) for one in (found, found.recorded) if one is not None],
            listed=_listed(found),
            shown=_shown,
            recorded=lambda pair: recorded_reply(found, pair),
            version=version("tunesmith"),
            today=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        )
    )


def _part(found: Evaluation) -> Part:
    sentences: list[tuple[str, str]] = [(sentence(one), one.decision) for one in found.outcomes]
    if found.loss is not None:
        sentences.append((loss_sentence(found.loss), "dim"))
    if found.forgetting is not None:
        sentences.append((found.forgetting.sentence, "worse" if found.forgetting.found else "dim"))
    return Part(found, _headline(found), sentences, [outcome_row(one) for one in found.outcomes], _sides(found))


def _say_left_out(found: Evaluation) -> None:
    if found.left_out:
        line, reason = found.left_out[0]
        note(f"{plural(len(found.left_out), 'question')} could not be asked; line {line}: {reason}")
    if not found.outcomes:
        note("Nothing was compared.")
    elif len(found.pairs) < FEW_ROWS:
        note(f"Only {plural(len(found.pairs), 'answer')}: a difference must be large to be seen.")


def _headline(found: Evaluation) -> str:
    if not found.outcomes:
        return "Nothing was compared"
    decision = found.outcomes[0].decision
    if decision in DECIDED:
        return f"{found.after} is {DECIDED[decision]} than {found.before}"
    said = "Too few rows to tell" if decision == "too few rows" else "Not decisive"
    return f"{said}: {found.after} against {found.before}"


def _table(found: Evaluation) -> object:
    table = listing(*SHOWN.values(), numbers=6)
    for one in found.outcomes:
        row = outcome_row(one)
        table.add_row(*(escape(str(row[name])) for name in SHOWN))
    return table


def outcome_row(one: Outcome) -> JsonObject:
    """An outcome as tables show it."""
    mean = one.difference.mean
    return {
        "name": one.criterion.name,
        "before": f"{_percent(one.before)} %",
        "after": f"{_percent(one.after)} %",
        "intervals": [f"{100 * side.low:.0f} to {100 * side.high:.0f}" for side in (one.before, one.after)],
        "change": f"{100 * mean.value:+.0f} ({100 * mean.low:+.0f} to {100 * mean.high:+.0f})",
        "both": "" if one.table is None else str(one.table.both),
        "gained": "" if one.table is None else str(one.table.gained),
        "lost": "" if one.table is None else str(one.table.lost),
        "neither": "" if one.table is None else str(one.table.neither),
        "p": f"{one.p:.3f}" if one.p >= 0.001 else "<0.001",
        "decision": one.decision,
    }


def _percent(value: Interval) -> str:
    return f"{100 * value.value:.0f}"


def _sides(found: Evaluation) -> str:
    """What each side's answers took."""
    words = []
    for index, model in enumerate((found.before, found.after)):
        side = found.side(index)
        extra = [plural(side.refusals, "refusal")] if side.refusals else []
        extra += [f"{side.cut:,} cut at the limit"] if side.cut else []
        tokens = plural(round(side.tokens / max(1, len(found.pairs))), "token")
        words.append(", ".join((f"{model}: {tokens} an answer", f"{side.median_seconds:.2f} s", *extra)))
    return "; ".join(words)


def _listed(found: Evaluation) -> list[Listed]:
    """The pairs that the deciding criterion judges differently, and others of which nothing was gained or lost."""
    if not found.outcomes:
        return []
    judge = found.outcomes[0].criterion.judge
    gained: list[tuple[float, Pair]] = []
    lost: list[tuple[float, Pair]] = []
    same: list[Pair] = []
    for pair in found.pairs:
        reference = pair.question.reference
        before, after = judge(pair.before.reply, reference), judge(pair.after.reply, reference)
        change = (after or 0.0) - (before or 0.0)
        if change:
            (gained if change > 0 else lost).append((abs(change), pair))
        else:
            same.append(pair)
    by_size = [[pair for _, pair in sorted(one, key=lambda two: -two[0])] for one in (gained, lost)]
    groups = zip(("Gained", "Lost", "Unchanged"), (*by_size, same), strict=True)
    return [Listed(title, pairs[:MOST_LISTED], len(pairs)) for title, pairs in groups]


def _shown(reply: Reply) -> str:
    return "\n".join([reply.text, *(f"{name}({arguments})" for name, arguments in reply.calls)]).strip()
