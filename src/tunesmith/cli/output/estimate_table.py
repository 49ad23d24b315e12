"""How an estimate looks in a terminal."""

from rich.markup import escape

from tunesmith.check.report.file_report import Report
from tunesmith.check.report.mask_preview import visible
from tunesmith.cli.bases import LocalBase
from tunesmith.cli.exits import CommandError, Exit
from tunesmith.cli.output.terminal import duration, facts, not_here, out, plural, print_table, size, warn
from tunesmith.errors import InvalidRequest
from tunesmith.estimate.hyperparameters import rate_warning, require_multiplier
from tunesmith.estimate.job_estimate import AnswersCost, Estimate
from tunesmith.estimate.prices import dollars


def print_estimate(report: Report, estimate: Estimate, base: LocalBase, base_rate: float | None = None) -> None:
    """Prints a job's hyperparameters, steps, tokens, time, and money there and here.

    `base_rate`: what the learning rate's multiplier multiplies.
    """
    held = f" ({estimate.held_out:,} more are held out for the verdict)" if estimate.held_out else ""
    out().print(f"[bold]{escape(visible(report.file))}[/bold]  {plural(estimate.examples, 'row')} on {base.name}{held}")
    print_table(facts({**_run(estimate, base_rate), **_here(estimate, base), **_money(estimate)}))


def warn_of_rate(multiplier: float | None, base_rate: float) -> None:
    """Warns on stderr of a multiplier that looks like a learning rate.

    Raises CommandError for one that no job takes.
    """
    if multiplier is None:
        return
    try:
        require_multiplier(multiplier)
    except InvalidRequest as error:
        raise CommandError(error.message, Exit.USAGE) from None
    warning = rate_warning(multiplier, base_rate)
    if warning is not None:
        warn(warning)


def _run(estimate: Estimate, base_rate: float | None) -> dict[str, str]:
    numbers = estimate.hyperparameters
    rate = "" if base_rate is None else f" (= {_scientific(numbers.learning_rate_multiplier * base_rate)})"
    beta = "" if numbers.beta is None else f", beta {numbers.beta:g}"
    return {
        "epochs": f"{numbers.n_epochs}",
        "batch size": f"{numbers.batch_size}",
        "learning rate": f"{numbers.learning_rate_multiplier:g} x the base rate{rate}{beta}",
        "steps": f"{estimate.total_steps:,} ({estimate.steps_per_epoch:,} an epoch)",
    }


def _scientific(rate: float) -> str:
    """As people write learning rates: 5e-4, 1.8e-5."""
    digits, _, exponent = f"{rate:.1e}".partition("e")
    return f"{digits.removesuffix('.0')}e{int(exponent)}"


def _here(estimate: Estimate, base: LocalBase) -> dict[str, str]:
    """What the job takes on this machine, as far as it is known."""
    shown = {"trained here": _trained_tokens(estimate) or not_here(base.name)}
    if estimate.seconds is not None:
        verdict = estimate.verdict_seconds
        of_it = f", {duration(verdict)} of it for the verdict" if verdict else ""
        shown["time"] = f"about {duration(estimate.seconds)} on this machine{of_it}"
    elif base.renderer is not None:
        shown["time"] = "[dim]not measured on this machine yet: add --measure[/dim]"
    if estimate.peak_memory_bytes is not None:
        shown["memory"] = f"about {size(estimate.peak_memory_bytes)} at the peak{_of_ranks(estimate)}"
    return shown


def _of_ranks(estimate: Estimate) -> str:
    if estimate.ranks == 1:
        return ""
    return f" of each of {estimate.ranks} ranks, {size(estimate.machine_memory_bytes or 0)} in all"


def _trained_tokens(estimate: Estimate) -> str:
    if estimate.trained_tokens is None:
        return ""
    about = "" if estimate.exact else "about "
    return (
        f"{about}[bold]{plural(estimate.trained_tokens, 'token')}[/bold] ({estimate.learned_tokens:,} of them learned),"
        " on your own machine"
    )


def _money(estimate: Estimate) -> dict[str, str]:
    """What OpenAI would take for the job and for answers, and what this machine costs."""
    shown = {"at OpenAI": f"{openai_training(estimate)} ({estimate.price.model}; prices: {estimate.price.table})"}
    if estimate.answers is not None:
        shown[""] = f"then {openai_answers(estimate.answers)}"
    shown["on this machine"] = _machine_cost(estimate)
    return shown


def openai_training(estimate: Estimate) -> str:
    """What OpenAI would take for the training, in words."""
    price, tokens = estimate.price, plural(estimate.openai_tokens, "token")
    if estimate.openai_cost is not None:
        return f"training {dollars(estimate.openai_cost)}: {tokens} at {dollars(price.training)} a million"
    if price.training_hour is not None:
        return f"training {dollars(price.training_hour)} an hour; how long it would take is not known"
    return f"training not known: {tokens}, whose price is not known"


def openai_answers(answers: AnswersCost) -> str:
    """What OpenAI would take for 1,000 answers, in words."""
    lengths = f"{answers.prompt_tokens:,.0f} tokens of prompt and {answers.completion_tokens:,.0f} of answer each"
    return f"{dollars(answers.dollars)} for 1,000 answers ({lengths}, as in the file)"


def _machine_cost(estimate: Estimate) -> str:
    if estimate.local_cost is not None:
        return f"training {dollars(estimate.local_cost)}; answers have no price, they take the machine's time"
    if estimate.seconds is not None:
        return "no price, only its time and power; for dollars add --hourly-cost, or --watts and --kwh-price"
    return "not known: its time was not measured"
