"""How an estimate looks in a terminal."""

from rich.markup import escape

from tunesmith.check.report.file_report import Report
from tunesmith.check.report.mask_preview import visible
from tunesmith.cli.bases import LocalBase
from tunesmith.cli.output.terminal import duration, facts, not_here, out, size
from tunesmith.estimate.job_estimate import BreakEven, Estimate
from tunesmith.estimate.prices import dollars


def print_estimate(report: Report, estimate: Estimate, base: LocalBase, base_rate: float | None = None) -> None:
    """Prints a job's hyperparameters, steps and tokens, its time, and OpenAI's price.

    `base_rate`: what the learning rate's multiplier multiplies.
    """
    out().print(f"[bold]{escape(visible(report.file))}[/bold]  {estimate.examples:,} rows on {base.name}")
    out().print(facts({**_run(estimate, base_rate), **_here(estimate, base), **_at_openai(estimate)}))


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
        cost = f", {dollars(estimate.local_cost)}" if estimate.local_cost is not None else ""
        shown["time"] = f"about {duration(estimate.seconds)} on this machine{cost}"
    elif base.renderer is not None:
        shown["time"] = "[dim]not measured on this machine yet: add --measure[/dim]"
    if estimate.peak_memory_bytes is not None:
        shown["memory"] = f"about {size(estimate.peak_memory_bytes)} at the peak"
    if estimate.local_cost is not None:
        shown["cost"] = f"{dollars(estimate.local_cost)} of this machine's time"
    return shown


def _trained_tokens(estimate: Estimate) -> str:
    if estimate.trained_tokens is None:
        return ""
    about = "" if estimate.exact else "about "
    return (
        f"{about}[bold]{estimate.trained_tokens:,} tokens[/bold] ({estimate.learned_tokens:,} of them learned),"
        " on your own machine"
    )


def _at_openai(estimate: Estimate) -> dict[str, str]:
    price = (
        f"{estimate.openai_tokens:,} tokens, [bold]{dollars(estimate.openai_cost)}[/bold] at"
        f" {dollars(estimate.price.training)} per 1K ({estimate.price.model}, {estimate.price.table})"
    )
    if estimate.break_even is None:
        return {"at OpenAI": price}
    return {"at OpenAI": price, "pays back": _break_even(estimate.break_even)}


def _break_even(found: BreakEven) -> str:
    prompt = f"the system prompt ({found.system_tokens:,.0f} tokens)"
    if found.calls is not None:
        return f"after {found.calls:,} calls without {prompt}"
    return f"never at OpenAI's prices: a tuned call without {prompt} costs more than a plain one with it"
