"""`tunesmith eval --prompts LONG`: was the prompt worth shortening?"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.cli.exits import CommandError, Exit

if TYPE_CHECKING:
    from tunesmith.estimate.prices import Price
    from tunesmith.evals.prompts import Way, WayResult
    from tunesmith.evals.questions import Question
    from tunesmith.evals.run import Answers, Ask


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
) -> "list[WayResult]":
    """Asks every question in every way.

    One that cannot be asked in all of them is left out.
    """
    from tunesmith.evals.prompts import compare_ways
    from tunesmith.evals.run import ask_sides

    found = ask_sides(ask, [(way.model, way.prompt) for way in ways], questions, concurrency, watch)
    check_answers(found)
    return compare_ways(ways, found.questions, found.sides)


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
    from tunesmith.evals.comparison import sentence
    from tunesmith.evals.prompts import CALLS

    price_in, price_out = price.input or 0.0, price.output or 0.0
    if as_json:
        rows = [{**one.to_json(), "dollars_per_1000_calls": one.dollars(price_in, price_out)} for one in results]
        print_json({"object": "tunesmith.prompts", "price": price.model, "ways": list(rows)})
        return
    table = listing("way", "right", "prompt tokens", "answer tokens", "seconds", f"$ for {CALLS:,} calls", numbers=5)
    for one in results:
        score = f"{100 * one.score.value:.0f} % ({100 * one.score.low:.0f} to {100 * one.score.high:.0f})"
        numbers = f"{one.prompt_tokens:.0f}", f"{one.tokens:.0f}", f"{one.seconds:.2f}"
        table.add_row(one.way.name, score, *numbers, f"{one.dollars(price_in, price_out):.3f}")
    out().print(table, crop=False)
    out().print()
    for one in results:
        if one.outcome is not None:
            text = f"{results[0].way.name} -> {one.way.name}: {sentence(one.outcome)}"
            out().print(escape(text), soft_wrap=True)
    out().print(f"[dim]Cost at the price of a tuned {escape(price.model)}: {escape(price.table)}[/dim]")
