"""`tunesmith check`, `estimate` and `fix`: what is in a file, what a job on it would be, its safe cures. No server."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.exits import CommandError, Exit
from tunesmith.cli.options import Adapter, AsJson, DataDir, Dataset, LoraRank

if TYPE_CHECKING:
    from tunesmith.check.report.file_report import Report
    from tunesmith.check.rules.leaks import Leaks
    from tunesmith.cli.bases import LocalBase
    from tunesmith.estimate.speed import Benchmark, Workload
    from tunesmith.settings import Settings

Base = Annotated[
    str | None, typer.Option("--base", help="Base model (or alias) that counts the tokens.", show_default=False)
]
PREVIEWED_ROWS = 5  # of the HTML report
Method = Annotated[
    str | None,
    typer.Option(help="Training method the rows must fit: supervised, dpo or reinforcement.", show_default=False),
]


def check(
    file: Dataset,
    base: Base = None,
    method: Method = None,
    show: Annotated[int, typer.Option(min=0, help="Also show what the first N rows teach, token by token.")] = 0,
    near_duplicates: Annotated[
        bool, typer.Option("--near-duplicates", help="Also look for rows that nearly repeat others (slower).")
    ] = False,
    moderation: Annotated[
        bool, typer.Option("--moderation", help="Also judge the texts, as a job does before it trains (slower).")
    ] = False,
    validation: Annotated[
        Path | None, typer.Option(help="Also look for rows of this validation file in FILE.", show_default=False)
    ] = None,
    findings: Annotated[int, typer.Option(min=1, help="Findings to print; all are counted.")] = 20,
    html: Annotated[
        Path | None, typer.Option(help="Also write the report as one HTML page to this file.", show_default=False)
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Check a training file: every fault with its line and cure. Exit code 1 if a job would refuse it."""
    from tunesmith.check.report.mask_preview import preview_rows
    from tunesmith.cli.configure import load_settings
    from tunesmith.cli.output import tables as report
    from tunesmith.cli.output.terminal import print_json

    settings = load_settings(data_dir)
    with_base, found = _checked(file, base, method, settings, near_duplicates=near_duplicates)
    found = _moderated(file, found, settings) if moderation else found
    leaks = _leaks(file, validation) if validation is not None else None
    if show and with_base.renderer is None:
        raise CommandError(report.weights_missing(with_base.base.name))
    if html is not None:
        _write_html(html, file, found, with_base)
    if as_json:
        print_json(found.to_json() if leaks is None else {**found.to_json(), "leaks": leaks.to_json()})
    else:
        report.print_report(found, with_base, findings)
        if leaks is not None:
            report.print_leaks(leaks, findings)
        if show and with_base.renderer is not None:
            report.print_mask(preview_rows(file, with_base.renderer, show, with_base.max_tokens))
    raise typer.Exit(Exit.OK if found.ok else Exit.FAILED)


def estimate(
    file: Dataset,
    base: Base = None,
    method: Method = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs, instead of auto.", show_default=False)] = None,
    batch_size: Annotated[int | None, typer.Option(help="Rows a step, instead of auto.", show_default=False)] = None,
    adapter: Adapter = None,
    lora_rank: LoraRank = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure how fast this machine trains (half a minute, then remembered).")
    ] = False,
    hourly_cost: Annotated[
        float | None, typer.Option(min=0, help="What an hour of this machine costs you, dollars.", show_default=False)
    ] = None,
    price: Annotated[str, typer.Option(help="OpenAI model whose prices to compare with.")] = "gpt-3.5-turbo",
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Say what a job on this file would be: hyperparameters, steps, tokens, and OpenAI's price beside it."""
    from tunesmith.cli.configure import load_settings
    from tunesmith.cli.output import tables as report
    from tunesmith.cli.output.terminal import print_json
    from tunesmith.estimate import job_estimate as estimates
    from tunesmith.estimate.prices import OPENAI_2023, price_of

    compared = price_of(price)
    if compared is None:
        known = ", ".join(OPENAI_2023)
        raise CommandError(f"There is no price for {price!r}; known are {known}.", Exit.USAGE)
    settings = load_settings(data_dir, adapter=adapter, lora_rank=lora_rank)
    with_base, found = _checked(file, base, method, settings, encoding=compared.encoding)
    if not found.ok:
        raise CommandError(f"{found.errors[0]} ({report.faults(found)} in {file.name}: tunesmith check {file})")
    asked = {"n_epochs": epochs, "batch_size": batch_size}
    numbers = estimates.resolve_hyperparameters(asked, found, method or "supervised")
    speed = _benchmark(with_base, settings, measure=measure)
    work = _workload(file, found, with_base, numbers.batch_size) if speed is not None else None
    result = estimates.estimate(found, numbers, compared, benchmark=speed, work=work, hourly_cost=hourly_cost)
    if as_json:
        print_json(result.to_json())
    else:
        report.print_estimate(found, result, with_base)


def fix(
    file: Dataset,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The mended file; FILE.fixed.jsonl unless named.", show_default=False),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a copy with the safe cures applied. Rows that cannot be mended go to OUTPUT.rejected."""
    from tunesmith.check.fix.fixed_file import fix_file
    from tunesmith.cli.output import tables as report
    from tunesmith.cli.output.terminal import print_json

    target = output or file.with_name(f"{file.stem}.fixed.jsonl")
    result = fix_file(require_file(file), target, overwrite=overwrite)
    if as_json:
        print_json(result.to_json())
    else:
        report.print_fix(result, target)


def require_file(file: Path) -> Path:
    """The path of a readable file; a sentence otherwise."""
    if not file.exists():
        raise CommandError(f"There is no file {file}. Check the path (you are in {Path.cwd()}).", Exit.USAGE)
    if file.is_dir():
        raise CommandError(f"{file} is a directory; name the .jsonl file in it.", Exit.USAGE)
    if not file.is_file():  # the rows are read more than once
        raise CommandError(f"{file} is a pipe or a device; write the rows to a file first.", Exit.USAGE)
    return file


def _leaks(file: Path, validation: Path) -> "Leaks":
    from tunesmith.check.rules.leaks import find_leaks

    return find_leaks(file, require_file(validation))


def _benchmark(with_base: "LocalBase", settings: "Settings", *, measure: bool) -> "Benchmark | None":
    """What is known of this machine's speed; None when nobody measured it yet."""
    from tunesmith.cli.output.tables import weights_missing
    from tunesmith.cli.output.terminal import err
    from tunesmith.train.measure import benchmark_of

    if with_base.directory is None:
        if measure:
            raise CommandError(weights_missing(with_base.base.name))
        return None
    with err().status("Measuring how fast this machine trains …" if measure else ""):
        return benchmark_of(
            settings.cache_dir,
            with_base.base.name,
            with_base.directory,
            options=settings.training_options(),
            threads=settings.train_threads,
            measure=measure,
        )


def _workload(file: Path, found: "Report", with_base: "LocalBase", batch_size: int) -> "Workload | None":
    """What the trainer would compute; None for rows that no trainer of ours takes."""
    from tunesmith.train.measure import workload

    if with_base.renderer is None or found.base is None or found.kind not in ("chat", "completion", "preference"):
        return None
    return workload(
        file,
        with_base.renderer,
        method="dpo" if found.kind == "preference" else "supervised",
        max_tokens=with_base.max_tokens,
        batch_size=batch_size,
        epoch_tokens=found.base.tokens,
    )


def _write_html(target: Path, file: Path, found: "Report", with_base: "LocalBase") -> None:
    from tunesmith.check.report.mask_preview import preview_rows
    from tunesmith.cli.output.html_report import report_html
    from tunesmith.cli.output.terminal import note
    from tunesmith.estimate.job_estimate import estimate, resolve_hyperparameters

    previews = []
    if with_base.renderer is not None:
        previews = list(preview_rows(file, with_base.renderer, PREVIEWED_ROWS, with_base.max_tokens))
    guess = estimate(found, resolve_hyperparameters(None, found)) if found.ok else None
    target.write_text(report_html(found, guess, previews), encoding="utf-8")
    note(f"Report written to {target}.")


def _moderated(file: Path, found: "Report", settings: "Settings") -> "Report":
    """The report with what the judge says; the option asks for it whatever the setting `moderation`."""
    from tunesmith.cli.output.tables import ReadingBar
    from tunesmith.cli.output.terminal import note
    from tunesmith.moderation.report import with_moderation
    from tunesmith.moderation.rows import judge_file

    with ReadingBar(file.name) as progress:
        judged = judge_file(file, settings.model_copy(update={"moderation": "warn"}), progress)
    if judged is None:
        return found
    note(judged.summary())
    return with_moderation(found, judged)


def _checked(
    file: Path,
    base: str | None,
    method: str | None,
    settings: "Settings",
    *,
    encoding: str | None = None,
    near_duplicates: bool = False,
) -> "tuple[LocalBase, Report]":
    from tunesmith.check.file_check import METHOD_KINDS, check_file
    from tunesmith.check.scan.analysers import ANALYSERS, DEFAULT_ANALYSERS
    from tunesmith.cli.bases import local_base
    from tunesmith.cli.output.tables import ReadingBar
    from tunesmith.tokens import DEFAULT_ENCODING

    require_file(file)
    if method is not None and method not in METHOD_KINDS:
        raise CommandError(f"{method!r} is not a training method; take one of {', '.join(METHOD_KINDS)}.", Exit.USAGE)
    with_base = local_base(base, settings)
    with ReadingBar(file.name) as progress:
        found = check_file(
            file,
            renderer=with_base.renderer,
            max_tokens=with_base.max_tokens,
            method=method,
            encoding=encoding or DEFAULT_ENCODING,
            analysers=ANALYSERS if near_duplicates else DEFAULT_ANALYSERS,
            progress=progress,
        )
    return with_base, found
