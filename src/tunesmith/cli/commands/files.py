"""`tunesmith files …`: the files on a server."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.exits import CommandError, Exit, require_terminal
from tunesmith.cli.options import AsJson, BaseUrl, DataDir, OutputFile, Yes, named

if TYPE_CHECKING:
    from tunesmith.client import Client, File, Job

app = typer.Typer(help="List, show, download and delete the files on a server.", no_args_is_help=True)

JOBS_SEEN = 1000  # the newest, in which the files' jobs are looked for

FileId = Annotated[
    str, typer.Argument(help="Id of the file (file-…).", metavar="FILE", show_default=False, callback=named)
]


@app.command("list")
def list_files(
    limit: Annotated[int, typer.Option(min=1, help="How many to show; the newest come first.")] = 20,
    after: Annotated[str | None, typer.Option(help="Go on after this file: the next page.", show_default=False)] = None,
    purpose: Annotated[
        str | None,
        typer.Option(help="Only files with this purpose, e.g. fine-tune or fine-tune-results.", show_default=False),
    ] = None,
    as_json: AsJson = False,
    base_url: BaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """List files, newest first: size, status, and the jobs that use them."""
    from tunesmith.cli.configure import again
    from tunesmith.cli.output.terminal import note, print_json

    with _client(base_url, data_dir) as client:
        files = client.files(limit + 1, after=after, purpose=purpose)
        shown = files[:limit]
        jobs = [] if as_json or not shown else client.jobs(JOBS_SEEN)
    if as_json:
        print_json([file.wire for file in shown])
        return
    if not shown:
        note("No files here. Upload one and train on it: tunesmith train FILE")
        return
    _print_files(shown, jobs)
    if len(files) > limit:
        note(f"More: {again(f'files list --limit {limit} --after {shown[-1].id}')}")


@app.command()
def show(file: FileId, as_json: AsJson = False, base_url: BaseUrl = None, data_dir: DataDir = None) -> None:
    """Show one file: size, purpose, status, and the jobs that use it."""
    from rich.markup import escape

    from tunesmith.cli.output.terminal import ago, facts, out, print_json, print_table, size

    with _client(base_url, data_dir) as client, _naming(client, file):
        found = client.file(file)
        jobs = [] if as_json else client.jobs(JOBS_SEEN)
    if as_json:
        print_json(found.wire)
        return
    values = {
        "name": escape(found.filename),
        "size": size(found.bytes),
        "purpose": found.purpose,
        "status": f"{_status(found)}{f': {escape(found.status_details)}' if found.status_details else ''}",
        "created": ago(found.created_at),
        "jobs": "\n".join(_users(found, jobs)) or "none",
    }
    if found.expires_at:
        values["expires"] = _date(found.expires_at)
    out().print(f"[bold]{escape(found.id)}[/bold]")
    print_table(facts(values))


@app.command()
def download(
    file: FileId,
    output: OutputFile = None,
    base_url: BaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Print a file's content, or write it to a file."""
    from tunesmith.cli.dataset import require_target
    from tunesmith.cli.output.terminal import note, size

    require_target(output)
    with _client(base_url, data_dir) as client, _naming(client, file):
        if output is None:
            for piece in client.content_pieces(file):
                sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
            return
        found = client.file(file)  # before the target is touched
        with output.open("wb") as target:
            for piece in client.content_pieces(file):
                target.write(piece)
    note(f"{size(found.bytes)} in {output}")


@app.command()
def delete(
    file: FileId,
    yes: Yes = False,
    base_url: BaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Delete a file from the server. A job that has read it goes on."""
    from tunesmith.cli.output.terminal import print_plain

    require_terminal(file, yes)
    with _client(base_url, data_dir) as client, _naming(client, file):
        if not yes:
            found = client.file(file)
            waiting = [job.id for job in client.jobs(JOBS_SEEN) if file in _files(job) and not job.finished]
            used = f" {', '.join(waiting)} needs it and will fail." if waiting else ""
            typer.confirm(f"Delete {file} ({_plain(found.filename)}) for good?{used}", abort=True)
        client.delete_file(file)
    print_plain(f"{file} is deleted.")


@contextmanager
def _client(base_url: str | None, data_dir: Path | None) -> "Iterator[Client]":
    from tunesmith.cli.configure import load_settings
    from tunesmith.cli.server.find import ask

    with ask(load_settings(data_dir), base_url) as client:
        yield client


@contextmanager
def _naming(client: "Client", file: str) -> Iterator[None]:
    """Names near ids for a file that is not there, and says so of a path on this machine."""
    from tunesmith.cli.names import naming_files

    if not file.startswith("file-") and Path(file).exists():
        raise CommandError(
            f"{file} is a file on this machine; these commands take the id of one on the server. See: tunesmith files"
            " list",
            Exit.USAGE,
        )
    with naming_files(client, file):
        yield


def _print_files(files: "list[File]", jobs: "list[Job]") -> None:
    from rich.markup import escape

    from tunesmith.cli.output.terminal import ago, listing, print_table, size

    table = listing("file", "size", "status", "purpose", "created", "name", "jobs", right=("size",))
    for file in files:
        used = _users(file, jobs)
        more = f" and {len(used) - 1} more" if len(used) > 1 else ""
        table.add_row(
            file.id,
            size(file.bytes),
            _status(file),
            file.purpose,
            ago(file.created_at),
            escape(file.filename),
            f"{used[0]}{more}" if used else "-",
        )
    print_table(table)


def _status(file: "File") -> str:
    colour = {"processed": "green", "error": "red"}.get(file.status, "dim")
    return f"[{colour}]{file.status}[/{colour}]"


def _users(file: "File", jobs: "list[Job]") -> list[str]:
    """The jobs that read or wrote the file, newest first."""
    return [job.id for job in jobs if file.id in _files(job)]


def _files(job: "Job") -> list[str | None]:
    return [job.training_file, job.validation_file, *job.result_files]


def _plain(name: str) -> str:
    from tunesmith.cli.output.terminal import visible

    return visible(name)


def _date(unix_time: int) -> str:
    import time

    return time.strftime("%Y-%m-%d %H:%M", time.localtime(unix_time))
