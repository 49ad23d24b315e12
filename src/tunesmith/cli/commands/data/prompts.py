"""`tunesmith eval --prompts LONG`: was the prompt worth shortening?"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.cli.exits import CommandError, Exit

if TYPE_CHECKING:
    from tunesmith.estimate.prices import Price
    from tunesmith.evals.prompts import Way, WayResult
    from tunesmith.evals.questions import Question
    from tunesmith.evals.run import Answers, Ask
    from tunesmith.jsonvalue import JsonObject, JsonValue

CALLS = 1_000


def long_prompt(path: Path) -> str:
    """The text of the prompt; CommandError where there is none."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path} cannot be read as a prompt: {error}", Exit.USAGE) from error
    if not text:
        raise CommandError(f"{path} is empty: it needs the long prompt, as text.", Exit.USAGE)
    return text


def ask_ways(
    ways: "Sequence[Way]", questions: "Sequence[Question]", ask: "Ask", concurrency: int, watch: Callable[[int], None]
) -> "Answers":
    """Asks every question in every way.

    One that cannot be asked in all of them is left out.
    """
    from tunesmith.evals.run import ask_sides

    found = ask_sides(ask, [(way.model, way.prompt) for way in ways], questions, concurrency, watch)
    check_answers(found)
    return found


def answers_json(ways: "Sequence[Way]", found: "Answers") -> "list[JsonValue]":
    """A row for each question, with the reference and the answer of each way."""

    def row(place: int, question: "Question") -> "JsonObject":
        answers: JsonObject = {way.name: side[place].to_json() for way, side in zip(ways, found.sides, strict=True)}
        return {
            "line": question.line,
            "prompt": list(question.messages),
            "reference": question.answer,
            "answers": answers,
        }

    return [row(place, question) for place, question in enumerate(found.questions)]


def check_answers(found: "Answers") -> None:
    """Says which questions were left out; CommandError where all were."""
    from tunesmith.cli.output.terminal import note, plural

    if found.left_out:
        line, reason = found.left_out[0]
        note(f"{plural(len(found.left_out), 'question')} could not be asked; line {line}: {reason}")
    if not found.questions:
        raise CommandError("Nothing was compared.")


def print_ways(results: "Sequence[WayResult]", price: "Price", *, as_json: bool) -> None:
    """Prints the table of the ways, and what the comparisons say."""
    from rich.markup import escape

    from tunesmith.cli.output.terminal import listing, out, print_json

    costs = [_cost(one, price) for one in results]
    if as_json:
        rows = [{**one.to_json(), "dollars_per_1000_calls": cost} for one, cost in zip(results, costs, strict=True)]
        print_json({"object": "tunesmith.prompts", "price": price.model, "ways": list(rows)})
        return
    titles = results[0].criterion, "prompt tokens", "answer tokens", "seconds", f"{CALLS:,} calls"
    table = listing("way", *titles, numbers=5)
    for one, cost in zip(results, costs, strict=True):
        score = f"{100 * one.score.value:.0f} % ({100 * one.score.low:.0f} to {100 * one.score.high:.0f})"
        numbers = f"{one.prompt_tokens:.0f}", f"{one.tokens:.0f}", f"{one.seconds:.2f}"
        table.add_row(one.way.name, score, *numbers, _three_digits(cost))
    out().print(table, crop=False)
    out().print()
    for line in _sentences(results):
        out().print(escape(line), soft_wrap=True)
    out().print(f"[dim]{escape(_what_costs(price))}[/dim]", soft_wrap=True)


def _cost(result: "WayResult", price: "Price") -> float | None:
    """Dollars for `CALLS` calls; None where a price is not known."""
    from tunesmith.estimate.prices import answer_cost

    paid = price if result.way.tuned else price.base() or price
    one = answer_cost(paid, 1, 0), answer_cost(paid, 0, 1)
    if one[0] is None or one[1] is None:
        return None
    return CALLS * (result.prompt_tokens * one[0] + result.tokens * one[1])


def _three_digits(amount: float | None) -> str:
    """An amount as exact as it takes to see which way is cheaper: `$0.0755` beside `$0.0790`."""
    from tunesmith.estimate.prices import dollars

    if amount is None or amount >= 1 or amount <= 0:
        return dollars(amount)
    return f"${amount:.{2 - math.floor(math.log10(amount))}f}"


def _sentences(results: "Sequence[WayResult]") -> list[str]:
    from tunesmith.evals.comparison import sentence, wording_note

    first, long, short = results[0], results[-2], results[-1]
    pairs = [(first, one, one.outcome) for one in results[1:]] + [(long, short, short.shortened)]
    said = [f"{a.way.name} -> {b.way.name}: {sentence(found)}" for a, b, found in pairs if found is not None]
    note = wording_note([found for _, _, found in pairs if found is not None])
    return said if note is None else [*said, f"{note}."]


def _what_costs(price: "Price") -> str:
    base = "the base at the base's" if price.base() else "the base at that too, since its own is not known"
    return f"1,000 calls: a tuned {price.model} at its price, {base} ({price.table}); tokens as counted here."
