"""`tunesmith estimate`: what a job on a file would take, without a server."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.exits import CommandError, Exit
from tunesmith.cli.options import Adapter, AsJson, Base, BatchSize, DataDir, Dataset, Epochs, LoraRank, RowMethod
from tunesmith.cli.signature import takes

if TYPE_CHECKING:
    from tunesmith.check.report.file_report import Report
    from tunesmith.cli.bases import LocalBase
    from tunesmith.estimate.job_estimate import Estimate
    from tunesmith.estimate.prices import Price
    from tunesmith.estimate.speed import Benchmark, Workload
    from tunesmith.settings import Settings


@dataclass(frozen=True, slots=True)
class EstimateOptions:
    """The options of `tunesmith estimate`."""

    file: Dataset
    base: Base = None
    method: RowMethod = None
    epochs: Epochs = None
    batch_size: BatchSize = None
    adapter: Adapter = None
    lora_rank: LoraRank = None
    measure: Annotated[
        bool,
        typer.Option(
            "--measure", help="Measure how fast this machine trains (takes half a minute; the result is kept)."
        ),
    ] = False
    hourly_cost: Annotated[
        float | None, typer.Option(min=0, help="Cost of an hour of this machine, in dollars.", show_default=False)
    ] = None
    price: Annotated[str, typer.Option(help="OpenAI model whose prices to compare with.")] = "gpt-3.5-turbo"
    as_json: AsJson = False
    data_dir: DataDir = None


@takes(EstimateOptions)
def estimate(options: EstimateOptions) -> None:
    """Estimate a job on this file: hyperparameters, steps, tokens and time.

    OpenAI's price is shown for comparison.
    """
    from tunesmith.cli.configure import load_settings
    from tunesmith.cli.dataset import DatasetCheck, check_dataset
    from tunesmith.cli.output.check_report import error_count
    from tunesmith.cli.output.estimate_table import print_estimate
    from tunesmith.cli.output.terminal import print_json

    price = _price(options.price)
    settings = load_settings(options.data_dir, adapter=options.adapter, lora_rank=options.lora_rank)
    request = DatasetCheck(options.file, options.base, options.method, encoding=price.encoding)
    base, report = check_dataset(request, settings)
    if not report.ok:
        file = options.file
        raise CommandError(f"{report.errors[0]} ({error_count(report)} in {file.name}: tunesmith check {file})")
    result = _estimate(options, price, settings, base, report)
    if options.as_json:
        print_json(result.to_json())
    else:
        print_estimate(report, result, base, settings.rate_to_multiply)


def _price(model: str) -> "Price":
    from tunesmith.estimate.prices import OPENAI_2023, price_of

    price = price_of(model)
    if price is None:
        raise CommandError(f"There is no price for {model!r}; known are {', '.join(OPENAI_2023)}.", Exit.USAGE)
    return price


def _estimate(
    options: EstimateOptions, price: "Price", settings: "Settings", base: "LocalBase", report: "Report"
) -> "Estimate":
    from tunesmith.estimate import job_estimate

    requested = {"n_epochs": options.epochs, "batch_size": options.batch_size}
    numbers = job_estimate.resolve_hyperparameters(requested, report, options.method or "supervised")
    speed = _benchmark(base, settings, measure=options.measure)
    work = _workload(options, report, base, numbers.batch_size) if speed is not None else None
    machine = job_estimate.Machine(speed, work, options.hourly_cost)
    return job_estimate.estimate(report, numbers, price, machine)


def _benchmark(base: "LocalBase", settings: "Settings", *, measure: bool) -> "Benchmark | None":
    """How fast this machine trains; None when that was never measured."""
    from tunesmith.cli.bases import weights_missing
    from tunesmith.cli.output.terminal import err
    from tunesmith.train.measure import benchmark_of

    if base.directory is None:
        if measure:
            raise CommandError(weights_missing(base))
        return None
    with err().status("Measuring how fast this machine trains …" if measure else ""):
        return benchmark_of(
            settings.cache_dir,
            base.name,
            base.directory,
            options=settings.training_options(),
            threads=settings.train_threads,
            measure=measure,
        )


def _workload(options: EstimateOptions, report: "Report", base: "LocalBase", batch_size: int) -> "Workload | None":
    """What the trainer would compute; None for rows that no trainer here takes."""
    from tunesmith.train.measure import workload

    if base.renderer is None or report.base is None or report.kind not in ("chat", "completion", "preference"):
        return None
    return workload(
        options.file,
        base.renderer,
        method="dpo" if report.kind == "preference" else "supervised",
        max_tokens=base.max_tokens,
        batch_size=batch_size,
        epoch_tokens=report.base.tokens,
    )
