"""`tunesmith jobs …`: list, inspect, watch and control jobs on a server."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.exits import CommandError, Exit
from tunesmith.cli.options import AsJson, AsJsonLines, BaseUrl, DataDir, JobId, OutputFile

if TYPE_CHECKING:
    from tunesmith.client import Client, Job

app = typer.Typer(help="List, watch, cancel, pause and resume jobs.", no_args_is_help=True)

COLOURS = {"succeeded": "green", "failed": "red", "cancelled": "yellow", "paused": "yellow", "running": "cyan"}
Limit = Annotated[int, typer.Option(min=1, help="How many to show, newest first.")]
LatestLimit = Annotated[int, typer.Option("--limit", min=1, help="How many of the latest to show, oldest first.")]


@app.command("list")
def list_jobs(limit: Limit = 20, as_json: AsJson = False, base_url: BaseUrl = None, data_dir: DataDir = None) -> None:
    """List jobs, newest first."""
    from rich.markup import escape

    from tunesmith.cli.output.terminal import ago, listing, note, print_json, print_table

    with _client(base_url, data_dir) as client:
        jobs = client.jobs(limit)
    if as_json:
        print_json([job.wire for job in jobs])
        return
    if not jobs:
        note("No jobs yet. Start one: tunesmith train FILE")
        return
    table = listing("job", "status", "created", "model")
    for job in jobs:
        table.add_row(
            job.id, _coloured(job.state), ago(job.created_at), escape(job.fine_tuned_model or f"({job.model})")
        )
    print_table(table)


@app.command()
def show(job: JobId, as_json: AsJson = False, base_url: BaseUrl = None, data_dir: DataDir = None) -> None:
    """Show one job: status, settings, models."""
    from tunesmith.cli.output.terminal import print_json

    with _client(base_url, data_dir) as client:
        found = _find(client, job)
        if as_json:
            print_json(found.wire)
        else:
            _print_job(client, found)


@app.command()
def events(
    job: JobId, limit: LatestLimit = 20, as_json: AsJson = False, base_url: BaseUrl = None, data_dir: DataDir = None
) -> None:
    """Print a job's latest events, oldest first."""
    import time

    from tunesmith.cli.output.terminal import print_json, print_plain

    with _client(base_url, data_dir) as client:
        found = client.events(_find(client, job).id, limit)[::-1]
    if as_json:
        print_json([event.wire for event in found])
        return
    for event in found:
        when = time.strftime("%H:%M:%S", time.localtime(event.created_at))
        level = "" if event.level == "info" else f"{event.level}: "
        print_plain(f"{when}  {level}{event.message}")


@app.command("watch")
def watch_command(
    job: JobId,
    as_json: AsJsonLines = False,
    base_url: BaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Watch a job until it ends. Ctrl-C detaches; the job goes on."""
    from tunesmith.cli.configure import load_settings
    from tunesmith.cli.output.watch import watch_to_end
    from tunesmith.cli.server.find import Connection, ask, connect

    settings = load_settings(data_dir)
    with ask(settings, base_url) as client:
        found = _find(client, job)
        if found.finished:  # no server is started for it
            watch_to_end(Connection(client, None), found, as_json=as_json)
            return
    with connect(settings, base_url, with_worker=True) as connection:
        watch_to_end(connection, found, as_json=as_json)


@app.command()
def cancel(job: JobId, as_json: AsJson = False, base_url: BaseUrl = None, data_dir: DataDir = None) -> None:
    """Cancel a job for good. Its trainer stops within seconds."""
    _change(job, "cancel", "is cancelled", as_json, base_url, data_dir)


@app.command()
def pause(job: JobId, as_json: AsJson = False, base_url: BaseUrl = None, data_dir: DataDir = None) -> None:
    """Pause a job; it keeps its progress."""
    _change(job, "pause", "is paused; resume it: tunesmith jobs resume {id}", as_json, base_url, data_dir)


@app.command()
def resume(job: JobId, as_json: AsJson = False, base_url: BaseUrl = None, data_dir: DataDir = None) -> None:
    """Resume a paused job."""
    _change(job, "resume", "goes on; watch it: tunesmith jobs watch {id}", as_json, base_url, data_dir)


@app.command()
def result(
    job: JobId,
    evaluation: Annotated[bool, typer.Option("--evaluation", help="The evaluation instead, as JSON.")] = False,
    output: OutputFile = None,
    base_url: BaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Print a finished job's metrics, step by step, as CSV."""
    import sys

    from tunesmith.cli.configure import again
    from tunesmith.cli.dataset import require_target

    require_target(output)
    with _client(base_url, data_dir) as client:
        found = _find(client, job)
        if not found.result_files:
            raise CommandError(_no_result(found), Exit.JOB_FAILED if found.finished else Exit.FAILED)
        if evaluation and found.evaluation_file is None:
            raise CommandError(
                f"Job {found.id} was not evaluated; compare it now: {again(f'eval {found.id} --on FILE')}"
            )
        content = client.content((evaluation and found.evaluation_file) or found.result_files[0])
    if output is None:
        sys.stdout.write(content.decode())
    else:
        output.write_bytes(content)


@contextmanager
def _client(base_url: str | None, data_dir: Path | None) -> "Iterator[Client]":
    from tunesmith.cli.configure import load_settings
    from tunesmith.cli.server.find import ask

    with ask(load_settings(data_dir), base_url) as client:
        yield client


def _find(client: "Client", job_id: str) -> "Job":
    from tunesmith.cli.names import naming_jobs

    if job_id != "last":
        with naming_jobs(client, job_id):
            return client.job(job_id)
    newest = client.jobs(1)
    if not newest:
        raise CommandError("There are no jobs yet. Start one: tunesmith train FILE")
    return newest[0]


def _change(job_id: str, action: str, done: str, as_json: bool, base_url: str | None, data_dir: Path | None) -> None:
    from tunesmith.cli.output.terminal import print_json, print_plain

    with _client(base_url, data_dir) as client:
        job = client.change_job(_find(client, job_id).id, action)
    if as_json:
        print_json(job.wire)
    else:
        print_plain(f"{job.id} {done.format(id=job.id)}")


def _no_result(job: "Job") -> str:
    if job.status in ("failed", "cancelled"):
        return f"Job {job.id} has no result: it {'failed' if job.status == 'failed' else 'was cancelled'}."
    then = f"Resume it: tunesmith jobs resume {job.id}"
    if job.state != "paused":
        then = f"Wait for it: tunesmith jobs watch {job.id}"
    return f"Job {job.id} has no result yet: it is {job.state}. {then}"


def _coloured(status: str) -> str:
    return f"[{(colour := COLOURS.get(status, 'dim'))}]{status}[/{colour}]"


def _print_job(client: "Client", job: "Job") -> None:
    from rich.markup import escape

    from tunesmith.cli.chat.system_message import shown_system_message
    from tunesmith.cli.configure import again
    from tunesmith.cli.output.terminal import ago, facts, out, print_table

    shown = {
        "status": _coloured(job.state),
        "model": escape(job.model),
        "tuned model": escape(job.fine_tuned_model or ("none" if job.finished else "none yet")),
        "created": ago(job.created_at),
        "training file": job.training_file,
        "settings": escape(_pairs(job.hyperparameters)),
        "options": escape(_pairs({name: one for name, one in job.tunesmith.items() if name != "paused"})),
        **_known(job),
    }
    if job.fine_tuned_model:
        shown["talk to it"] = escape(again(f"chat {job.fine_tuned_model}"))
    if message := shown_system_message(client, job.fine_tuned_model):
        shown["system message"] = f"{escape(message)} [dim](of the training file; chat sends it)[/dim]"
    checkpoints = client.checkpoints(job.id)
    if checkpoints:
        shown["checkpoints"] = "\n".join(escape(one.fine_tuned_model_checkpoint) for one in checkpoints)
    out().print(f"[bold]{job.id}[/bold]")
    print_table(facts(shown))


def _pairs(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _known(job: "Job") -> dict[str, str]:
    """What only some jobs have, with markup."""
    import time

    from rich.markup import escape

    from tunesmith.cli.configure import again
    from tunesmith.cli.output.terminal import duration

    shown = {}
    if job.validation_file:
        shown["validation file"] = job.validation_file
    if job.finished_at:
        shown["took"] = duration(job.finished_at - job.created_at)
    elif job.estimated_finish:
        shown["time left"] = f"about {duration(job.estimated_finish - time.time())}"
    if job.trained_tokens:
        shown["trained tokens"] = f"{job.trained_tokens:,}"
    if job.verdict:
        shown["verdict"] = f"{escape(job.verdict)} [dim]({again(f'jobs result {job.id} --evaluation')})[/dim]"
    if job.error and job.error.message:
        shown["error"] = f"[red]{escape(job.error.message)}[/red]"
    if job.result_files:
        shown["result"] = f"{job.result_files[0]} [dim]({again(f'jobs result {job.id}')})[/dim]"
    return shown
