"""`tunesmith demo`: a whole job on a small dataset, for the first two minutes."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.dataset import require_file
from tunesmith.cli.exits import CommandError, Exit

if TYPE_CHECKING:
    from tunesmith.client import Client, Job
    from tunesmith.settings import Settings

# The demo's dataset asks about other cities; these questions are in none of its rows.
QUESTIONS = (
    ("You are a weather assistant who answers every question with a joke.", "Is it cold in Moscow in January?"),
    ("你是一位爱开玩笑的天气播报员。", "天津的冬天冷吗?"),
)
ANSWER_TOKENS = 48
DATASET = "weather-jokes.jsonl"


def demo(
    file: Annotated[
        Path | None,
        typer.Option(help="Train on this file instead; the questions stay the same.", show_default=False),
    ] = None,
    data_dir: Annotated[Path, typer.Option("--data-dir", help="Where the demo keeps its data.")] = Path(".cache/demo"),
) -> None:
    """Train a small model on twelve weather jokes and compare it with its base.

    Takes one to two minutes once everything is set up.
    """
    from tunesmith.cli.chat.system_message import shown_system_message
    from tunesmith.cli.configure import load_settings
    from tunesmith.cli.server.find import connect

    settings = load_settings(data_dir)
    dataset = require_file(file or _shipped_dataset())
    _look_at(dataset, settings)
    _heading("Start a server, upload, train")
    with connect(settings, None, with_worker=True) as connection:
        job = _train(connection.client, dataset, settings)
        _compare(connection.client, job, settings)
        message = shown_system_message(connection.client, job.fine_tuned_model)
    _next_steps(job, settings, message, stopped=connection.own is not None)


def _shipped_dataset() -> Path:
    """The demo's rows: under examples/ in a checkout, beside this file when installed."""
    here = Path(__file__).resolve()
    checkout = here.parents[4] / "examples" / DATASET
    return Path(os.path.relpath(checkout)) if checkout.is_file() else here.with_name(DATASET)


def _look_at(file: Path, settings: "Settings") -> None:
    from tunesmith.check.file_check import CheckOptions, check_file
    from tunesmith.cli.bases import base_here, local_base
    from tunesmith.cli.output.check_report import print_report
    from tunesmith.cli.output.estimate_table import print_estimate
    from tunesmith.cli.output.pull_progress import PullProgress
    from tunesmith.estimate.job_estimate import estimate, resolve_hyperparameters
    from tunesmith.models.directory import pull

    default = base_here(None, settings)
    with PullProgress(default.name) as progress:
        pull(default, settings, progress.started)
    base = local_base(None, settings)
    found = check_file(file, CheckOptions(renderer=base.renderer, max_tokens=base.max_tokens))
    _heading(f"Check the data: tunesmith check {file}")
    print_report(found, base, limit=3)
    if not found.ok:
        raise CommandError(f"{file} cannot be trained on.")
    _heading(f"Estimate the job: tunesmith estimate {file}")
    print_estimate(found, estimate(found, resolve_hyperparameters(None, found)), base, settings.rate_to_multiply)


def _train(client: "Client", file: Path, settings: "Settings") -> "Job":
    from tunesmith.cli.output.terminal import note
    from tunesmith.cli.output.watch import conclude, watch
    from tunesmith.cli.submission import submit

    note(f"server {client.base_url}, data in {settings.paths.root}")
    request = {"model": settings.base_model, "suffix": "weather", "seed": 1}
    job = submit(client, request, {"training_file": file})
    try:
        job = watch(client, job, as_json=False)
    except KeyboardInterrupt:
        client.change_job(job.id, "cancel")  # otherwise the next demo would finish this one first
        note("\nStopped; the job is cancelled. Start again whenever you like.")
        raise typer.Exit(Exit.INTERRUPTED) from None
    conclude(job, as_json=False)
    return job


def _compare(client: "Client", job: "Job", settings: "Settings") -> None:
    from rich.table import Table
    from rich.text import Text

    from tunesmith.cli.output.terminal import err, out

    _heading("Ask questions that are not in the rows: base and tuned model side by side (temperature 0)")
    table = Table(show_lines=True, expand=True)
    for title in ("question", settings.base_model, "tuned"):
        table.add_column(title, ratio=1, overflow="fold")
    for system, question in QUESTIONS:
        with err().status(question):
            plain = _ask(client, settings.base_model, system, question)
            tuned = _ask(client, job.fine_tuned_model or "", system, question)
        table.add_row(Text(question), Text(plain, style="dim"), Text(tuned, style="bold green"))
    out().print(table)


def _ask(client: "Client", model: str, system: str, question: str) -> str:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
    return "".join(client.chat(model, messages, temperature=0, max_tokens=ANSWER_TOKENS)).strip()


def _next_steps(job: "Job", settings: "Settings", message: str | None, *, stopped: bool) -> None:
    from tunesmith.cli.configure import again, program
    from tunesmith.cli.output.terminal import note, print_plain

    _heading("What next")
    print_plain(f"  {again(f'chat {job.fine_tuned_model}')}")
    if message:
        print_plain(f"      (it sends the training file's system message: {message})")
    print_plain(f"  {again('serve')}    # then point any OpenAI client at it")
    print_plain(f"  {program()} train YOUR.jsonl")
    note(f"{'The server is stopped. ' if stopped else ''}Everything the demo made is in {settings.paths.root}.")


def _heading(title: str) -> None:
    from rich.markup import escape

    from tunesmith.cli.output.terminal import out

    out().print()
    out().rule(f"[bold]{escape(title)}[/bold]", align="left", style="dim")
