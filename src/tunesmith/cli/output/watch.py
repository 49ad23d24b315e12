"""Follows a job until it has finished, and says what came of it."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import typer
from rich.markup import escape

from tunesmith.cli.chat.system_message import shown_system_message
from tunesmith.cli.configure import again
from tunesmith.cli.exits import CommandError, Exit
from tunesmith.cli.output.job_views import JsonLines, LiveBar, PlainLines, View
from tunesmith.cli.output.terminal import duration, err, facts, note, out, plural, print_json, print_plain, print_table
from tunesmith.cli.output.waiting import nothing_known
from tunesmith.client import Client, Event, Job, ServerRefused, ServerUnreachable

if TYPE_CHECKING:
    from tunesmith.cli.server.find import Connection, OwnServer

POLL_SECONDS = 0.7
PATIENCE_SECONDS = 60.0  # how long a server may be away (a restart) before we give up; the job does not mind
COUNT_SECONDS = 5.0  # between two looks at the queue
RECENT = 100  # events asked for at a time; a fast job makes some 10 between two polls


def watch_to_end(connection: "Connection", job: Job, *, as_json: bool) -> None:
    """Watches the job and prints its result and the next steps.

    Ctrl-C only ends the watching. Raises CommandError unless the job succeeds, and typer.Exit after Ctrl-C.
    """
    try:
        detail = connection.activity
        job = watch(connection.client, job, as_json=as_json, detail=detail, own=connection.own)
    except KeyboardInterrupt:
        if connection.own is not None:
            connection.own.keep()
        note(f"\nDetached; {job.id} goes on{' in the background' if connection.own else ''}.")
        note(f"  come back:  {again(f'jobs watch {job.id}')}")
        note(f"  stop it:    {again(f'jobs cancel {job.id}')}")
        raise typer.Exit(Exit.INTERRUPTED) from None
    conclude(job, as_json=as_json)
    if not as_json:
        print_plain(f"  talk to it:  {again(f'chat {job.fine_tuned_model}')}")
        if message := shown_system_message(connection.client, job.fine_tuned_model):
            print_plain(f"               (it sends the training file's system message: {message})")
        print_plain(f"  its metrics: {again(f'jobs result {job.id}')}")


def watch(
    client: Client,
    job: Job,
    *,
    as_json: bool,
    detail: Callable[[], str | None] = nothing_known,
    own: "OwnServer | None" = None,
) -> Job:
    """Shows the job until it has finished, and returns it as it is then.

    `detail` tells what the server does right now, where that is known; `own` is the server, if this command started it.
    KeyboardInterrupt passes through; the job goes on.
    """
    view: View = JsonLines() if as_json else LiveBar(detail) if err().is_terminal else PlainLines(detail)
    ahead, counted = None, -COUNT_SECONDS
    with view:
        for current, events in follow(client, job.id, partial(_away, view, job.id, own)):
            job = current
            for event in events:
                view.show(event)
            if not as_json and job.state == "queued" and time.monotonic() - counted >= COUNT_SECONDS:
                ahead, counted = jobs_ahead(client, job), time.monotonic()
            view.update(job, ahead)
    return job


def jobs_ahead(client: Client, job: Job) -> int | None:
    """How many unfinished jobs are older than this one; None where that is not known."""
    try:
        jobs = client.jobs(RECENT)
    except (ServerUnreachable, ServerRefused):
        return None
    older = jobs[[one.id for one in jobs].index(job.id) + 1 :] if job.id in [one.id for one in jobs] else []
    return sum(not one.finished and one.state != "paused" for one in older)


def _away(view: View, job_id: str, own: "OwnServer | None", newly: bool) -> None:
    """Says that the server is away; one that this command started will not come back."""
    fate = None if own is None else own.fate()
    if fate is not None:
        raise CommandError(
            f"{fate} The job goes on with the next server: {again(f'jobs watch {job_id}')}", Exit.UNREACHABLE
        )
    if newly:
        view.away(f"The server does not answer. Waiting {PATIENCE_SECONDS:.0f} s for it; the job goes on with it.")


def conclude(job: Job, *, as_json: bool) -> None:
    """Prints what came of the job; raises CommandError unless it succeeded."""
    if as_json:
        print_json(job.wire, indent=None)
    if job.status == "cancelled":
        raise CommandError(f"Job {job.id} was cancelled; it left no model.", Exit.JOB_FAILED)
    if job.status == "failed":
        reason = job.error.message if job.error and job.error.message else "no reason was given"
        raise CommandError(f"Job {job.id} failed: {reason}", Exit.JOB_FAILED)
    if not as_json:
        took = duration(job.finished_at - job.created_at) if job.finished_at else "?"
        out().print(f"\n[green]✓[/green] [bold]{escape(job.fine_tuned_model or '?')}[/bold]", soft_wrap=True)
        shown = {"trained": f"{plural(job.trained_tokens or 0, 'token')} in {took}"}
        print_table(facts(shown | ({"verdict": escape(job.verdict)} if job.verdict else {})))


def follow(
    client: Client, job_id: str, on_away: Callable[[bool], None] = lambda newly: None
) -> Iterator[tuple[Job, list[Event]]]:
    """Yields the job and its new events, oldest first, until it has finished.

    `on_away` is called while the server is away, at first with True.

    Raises ServerUnreachable when the server is away for more than `PATIENCE_SECONDS`.
    """
    seen: set[str] = set()
    away_since: float | None = None
    while True:
        try:
            job = client.job(job_id)  # before the events, so that those of a finished job are all there
            events = _new_events(client, job_id, seen)
        except ServerUnreachable:
            on_away(away_since is None)
            away_since = away_since or time.monotonic()
            if time.monotonic() - away_since > PATIENCE_SECONDS:
                raise
            time.sleep(POLL_SECONDS)
            continue
        away_since = None
        yield job, events
        if job.finished:
            return
        time.sleep(POLL_SECONDS)


def _new_events(client: Client, job_id: str, seen: set[str]) -> list[Event]:
    limit = RECENT
    while True:
        newest_first = client.events(job_id, limit)
        fresh = [event for event in newest_first if event.id not in seen]
        if len(fresh) < limit:  # the list reaches back to events already seen, or there are no more
            break
        limit *= 4
    seen.update(event.id for event in fresh)
    return fresh[::-1]
