"""Names that do not exist: near ones, and the command that lists them."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

from tunesmith.cli.configure import again
from tunesmith.cli.exits import CommandError
from tunesmith.client import Client, ServerRefused

SHOWN = 3
LIKENESS = 0.5  # from 0 to 1; a typo in a job's id leaves more, another job's id less


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`Did you mean x or y? `; empty where nothing is near."""
    near = get_close_matches(name, list(known), SHOWN, LIKENESS)
    return f"Did you mean {' or '.join(near)}? " if near else ""


@contextmanager
def naming_models(client: Client, name: str) -> Iterator[None]:
    """Says in a command's words that the model `name` does not exist."""
    try:
        yield
    except ServerRefused as refused:
        if refused.code != "model_not_found":
            raise
        near = did_you_mean(name, [model.id for model in client.models()])
        raise CommandError(nothing_called("model", name, near)) from refused


@contextmanager
def naming_jobs(client: Client, job_id: str) -> Iterator[None]:
    """Says in a command's words that the job does not exist."""
    try:
        yield
    except ServerRefused as refused:
        if refused.status_code != 404:  # with a slash in the id it is another path
            raise
        near = did_you_mean(job_id, [job.id for job in client.jobs(100)])
        raise CommandError(nothing_called("job", job_id, near)) from refused


@contextmanager
def naming_files(client: Client, file_id: str) -> Iterator[None]:
    """Says in a command's words that the file does not exist."""
    try:
        yield
    except ServerRefused as refused:
        if refused.status_code != 404:
            raise
        near = did_you_mean(file_id, [file.id for file in client.files(100)])
        raise CommandError(nothing_called("file", file_id, near)) from refused


def nothing_called(noun: str, name: str, near: str = "") -> str:
    """`No job is called x.`, near names, and the command that lists the right ones."""
    return f"No {noun} is called {name or repr(name)}. {near}`{again(f'{noun}s list')}` shows the {noun}s."
