"""`tunesmith estimate`: what a job on a file would take, without a server."""

from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.exits import CommandError, Exit
from tunesmith.cli.options import (
    Adapter,
    AsJson,
    Base,
    BatchSize,
    DataDir,
    Dataset,
    Epochs,
    LearningRateMultiplier,
    LoraRank,
    RowMethod,
)
from tunesmith.cli.prices import MachineOptions, PriceFile, hourly_cost, price_book, require_price
from tunesmith.cli.signature import takes

if TYPE_CHECKING:
    from tunesmith.check.report.file_report import Report
    from tunesmith.cli.bases import LocalBase
    from tunesmith.estimate.job_estimate import Estimate, Hyperparameters
    from tunesmith.estimate.price_file import PriceBook
    from tunesmith.estimate.prices import Price
    from tunesmith.estimate.speed import Benchmark, Workload
    from tunesmith.jsonvalue import JsonObject
    from tunesmith.settings import Settings


@dataclass(frozen=True, slots=True)
class EstimateOptions:
    """The options of `tunesmith estimate`."""

    file: Dataset
    base: Base = None
    method: RowMethod = None
    epochs: Epochs = None
    batch_size: BatchSize = None
    lr_multiplier: LearningRateMultiplier = None
    adapter: Adapter = None
    lora_rank: LoraRank = None
    evaluate: Annotated[
        bool,
        typer.Option("--evaluate", help="For a job that holds rows of FILE out for a verdict, as train --evaluate."),
    ] = False
    measure: Annotated[
        bool,
        typer.Option(
            "--measure", help="Measure how fast this machine trains (takes half a minute; the result is kept)."
        ),
    ] = False
    price: Annotated[
        str | None,
        typer.Option(
            help="OpenAI model to compare with, such as gpt-4o-mini, an ft: name, or gpt-3.5-turbo@2023. "
            "Default: the model that --base names, else gpt-3.5-turbo.",
            show_default=False,
        ),
    ] = None
    price_file: PriceFile = None
    machine: MachineOptions = field(default_factory=MachineOptions)
    as_json: AsJson = False
    data_dir: DataDir = None


@takes(EstimateOptions)
def estimate(options: EstimateOptions) -> None:
    """Estimate a job on this file: hyperparameters, steps, tokens, time and money.

    It shows what training and then 1,000 answers would cost at OpenAI, and what training costs on this machine.
    """
    from tunesmith.cli.configure import load_settings
    from tunesmith.cli.dataset import DatasetCheck, check_dataset
    from tunesmith.cli.output.check_report import error_count
    from tunesmith.cli.output.estimate_table import print_estimate, warn_of_rate
    from tunesmith.cli.output.terminal import print_json

    settings = load_settings(options.data_dir, adapter=options.adapter, lora_rank=options.lora_rank)
    if settings.adapter == "none" and options.lora_rank is not None:
        raise CommandError("--lora-rank is for --adapter lora, but all weights are trained; leave it out.", Exit.USAGE)
    warn_of_rate(options.lr_multiplier, settings.rate_to_multiply)
    book = price_book(options.price_file, settings)
    price, hourly = _price(options, book), hourly_cost(options.machine, book)
    request = DatasetCheck(options.file, options.base, options.method, encoding=price.encoding)
    base, report = check_dataset(request, settings)
    if not report.ok:
        file = options.file
        raise CommandError(f"{report.errors[0]} ({error_count(report)} in {file.name}: tunesmith check {file})")
    result = _estimate(options, (price, hourly), settings, base, report)
    if options.as_json:
        print_json({**result.to_json(), **_lora_share(base, settings)})
    else:
        print_estimate(report, result, base, settings.rate_to_multiply)
        _note_experts(base, settings)
    _warn_of_few(options, report)


def _warn_of_few(options: EstimateOptions, report: "Report") -> None:
    from tunesmith.cli.output.terminal import warn
    from tunesmith.evals.verdict.held_out import verdict_plan

    plan = verdict_plan(options.evaluate, report.examples, None)
    if plan is not None and plan.few_warning is not None:
        warn(plan.few_warning)


def _lora_share(base: "LocalBase", settings: "Settings") -> "JsonObject":
    """The share of the weights in the base's layers that the LoRA reaches; None where that is not known."""
    from tunesmith.families.lora_layers import lora_share

    options = settings.training_options()
    if base.directory is None or options.adapter != "lora":
        return {"lora_share": None}
    share = lora_share(base.directory, options.target_names)
    return {"lora_share": round(share.adapted / share.total, 4)}


def _note_experts(base: "LocalBase", settings: "Settings") -> None:
    from tunesmith.cli.output.terminal import note
    from tunesmith.families.lora_layers import lora_share

    options = settings.training_options()
    if base.directory is not None and options.adapter == "lora":
        notice = lora_share(base.directory, options.target_names).notice
        if notice:
            note(notice)


def _price(options: EstimateOptions, book: "PriceBook") -> "Price":
    """The price of the model that was asked for, else of the base if OpenAI trains that."""
    from tunesmith.estimate.prices import DEFAULT_MODEL

    if options.price is None and options.base is not None and (found := book.find(options.base)) is not None:
        return found
    return require_price(options.price or DEFAULT_MODEL, book)


def _estimate(
    options: EstimateOptions,
    prices: "tuple[Price, float | None]",
    settings: "Settings",
    base: "LocalBase",
    report: "Report",
) -> "Estimate":
    from tunesmith.estimate import job_estimate
    from tunesmith.estimate.verdict_time import read_pace
    from tunesmith.evals.verdict.held_out import verdict_plan

    requested = {
        "n_epochs": options.epochs,
        "batch_size": options.batch_size,
        "learning_rate_multiplier": options.lr_multiplier,
    }
    ranks = settings.train_ranks
    numbers = job_estimate.resolve_hyperparameters(requested, report, options.method or "supervised", ranks)
    speed = _benchmark(base, settings, (report, numbers), measure=options.measure)
    work = _workload(options, report, base, numbers.batch_size) if speed is not None else None
    price, hourly = prices
    machine = job_estimate.Machine(speed, work, hourly)
    pace = read_pace(settings.paths.root, base.name)
    plan = verdict_plan(options.evaluate, report.examples, None, pace)
    return job_estimate.estimate(report, numbers, price, machine, plan)


def _benchmark(
    base: "LocalBase", settings: "Settings", job: "tuple[Report, Hyperparameters]", *, measure: bool
) -> "Benchmark | None":
    """How fast this machine trains: as measured, else as in its latest job; else None."""
    from tunesmith.cli.bases import weights_missing
    from tunesmith.cli.output.waiting import Waiting
    from tunesmith.estimate.job_estimate import job_tokens
    from tunesmith.train.measure import Trainers, benchmark_of, job_benchmark, speed_of_job, speed_of_ranks

    if base.directory is None:
        if measure:
            raise CommandError(weights_missing(base))
        return None
    options, threads = settings.training_options(), settings.train_threads
    with Waiting("measuring how fast this machine trains") if measure else nullcontext():
        found = benchmark_of(
            settings.cache_dir, base.name, base.directory, options=options, threads=threads, measure=measure
        )
    root = settings.paths.root
    found = found or job_benchmark(root, base.name, options, threads)
    found = speed_of_job(found, base.directory, options, *job_tokens(*job))
    return speed_of_ranks(found, root, base.name, options, Trainers(threads, settings.train_ranks))


def _workload(options: EstimateOptions, report: "Report", base: "LocalBase", batch_size: int) -> "Workload | None":
    """What the trainer would compute; None for rows that no trainer here takes."""
    from tunesmith.train.workload import workload

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
