"""`tunesmith serve` and `tunesmith worker`: the processes that keep running."""

import gc
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.options import DataDir
from tunesmith.cli.signature import takes

if TYPE_CHECKING:
    from socket import socket

    from tunesmith.cli.server.run import ServeOptions
    from tunesmith.settings import Settings


@dataclass(frozen=True, slots=True)
class ServeCommand:
    """The options of `tunesmith serve`."""

    host: Annotated[
        str | None,
        typer.Option(help="Address to listen on (TUNESMITH_HOST); 127.0.0.1 unless set.", show_default=False),
    ] = None
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Port to listen on (TUNESMITH_PORT); 8000 unless set, 0 for any free one.",
            show_default=False,
        ),
    ] = None
    data_dir: DataDir = None
    worker: Annotated[bool, typer.Option(help="Run one worker beside the API, which trains the jobs.")] = True
    ready_file: Annotated[
        Path | None,
        typer.Option(
            help="Write address and process id to this file, as JSON, once the server answers requests.",
            show_default=False,
        ),
    ] = None
    exit_when_idle: Annotated[
        float | None,
        typer.Option(
            min=1, help="Stop after this many seconds without a request or an active job.", show_default=False
        ),
    ] = None
    log_level: Annotated[
        str, typer.Option(help="debug (every request), info (all but successful reads), warning or error.")
    ] = "info"

    def server_options(self) -> "ServeOptions":
        """What the server itself needs of them."""
        from tunesmith.cli.server.run import ServeOptions

        return ServeOptions(
            with_worker=self.worker,
            idle_seconds=self.exit_when_idle,
            ready_file=self.ready_file,
            announce=self.worker,
        )


@takes(ServeCommand)
def serve(command: ServeCommand) -> None:
    """Run the API and one worker, until Ctrl-C."""
    gc.disable()  # walks through what is being imported find nothing; `Collector` begins once all is there
    try:
        _run(command)
    finally:
        gc.enable()


def _run(command: ServeCommand) -> None:
    from tunesmith.cli.configure import load_settings
    from tunesmith.cli.output.terminal import note
    from tunesmith.cli.server.listener import bind
    from tunesmith.cli.server.run import set_log_level
    from tunesmith.system.streams import outlive_readers

    outlive_readers()
    settings = load_settings(command.data_dir, host=command.host, port=command.port)
    set_log_level(command.log_level)
    with bind(settings.host, settings.port) as listener:
        _serve(command, settings, listener)
    note("Stopped. Unfinished jobs go on at the next start.")


def _serve(command: ServeCommand, settings: "Settings", listener: "socket") -> None:
    from tunesmith.cli.data_dir import secure_data_dir
    from tunesmith.cli.local_store import open_with_first_key
    from tunesmith.cli.server.announcement import activity_dir
    from tunesmith.cli.server.listener import url_of
    from tunesmith.cli.server.run import run_server
    from tunesmith.launch.ray.launcher import check_launcher
    from tunesmith.models.options_check import check_serving
    from tunesmith.system.activity import share

    check_serving(settings)
    secure_data_dir(settings)
    share(activity_dir(settings))
    if command.worker:
        check_launcher(settings)
        _warn_of_second_worker(settings, url_of(listener))
    store, first_key = open_with_first_key(settings)
    try:
        _prepare_base(settings)
        banner = Banner(settings, url_of(listener), first_key, command.worker)
        run_server(settings, store, listener, command.server_options(), banner.print)
    finally:
        store.close()


def worker(data_dir: DataDir = None) -> None:
    """Run one worker alone, beside servers on the same data directory or database."""
    import logging

    from tunesmith.cli.configure import load_settings
    from tunesmith.cli.data_dir import secure_data_dir
    from tunesmith.cli.output.terminal import note
    from tunesmith.cli.server.announcement import activity_dir
    from tunesmith.store import open_store
    from tunesmith.system.activity import share
    from tunesmith.system.log import configure_log
    from tunesmith.system.streams import outlive_readers
    from tunesmith.worker.loop import run_worker

    outlive_readers()
    settings = load_settings(data_dir)
    configure_log(logging.INFO)
    secure_data_dir(settings)
    share(activity_dir(settings))
    store = open_store(settings)  # the first key is left to `serve`, which prints it
    stop = _stopped_by_signals()
    _prepare_base(settings)
    note(f"Worker on {settings.paths.root}. Ctrl-C stops it; an unfinished job goes on with the next worker.")
    try:
        run_worker(store, settings, stop)
    finally:
        store.close()
    note("Stopped.")


def _stopped_by_signals() -> threading.Event:
    """An event that SIGINT and SIGTERM set."""
    import signal

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop


@dataclass(frozen=True, slots=True)
class Banner:
    """What a server says once it answers: everything that a client needs."""

    settings: "Settings"
    base_url: str
    first_key: str | None  # shown once, at the very first start, and in a terminal only: a log file may be read by many
    worker: bool

    def print(self) -> None:
        """Prints the banner, and a warning if the server is open to the network."""
        from tunesmith import __version__
        from tunesmith.cli.output.terminal import facts, out, warn

        console = out()
        console.print(f"\n[bold]Tunesmith[/bold] {__version__}\n")
        console.print(facts(self._facts()), crop=False)  # its paths are copied
        console.print(f"\nIn another terminal:\n  export OPENAI_BASE_URL={self.base_url}", soft_wrap=True)
        key_file = self.settings.paths.api_key_file
        console.print(f"  export OPENAI_API_KEY=$(cat {key_file})", soft_wrap=True, markup=False)
        console.print("\n[dim]Ctrl-C stops the server.[/dim]")
        host = self.settings.host
        if host not in ("127.0.0.1", "::1", "localhost"):
            warn(f"{host} can be reached from the network, over plain HTTP. Put a TLS proxy in front of it.")

    def _facts(self) -> dict[str, str]:
        from rich.markup import escape

        return {
            "base URL": f"[bold]{self.base_url}[/bold]",
            "dashboard": f"{escape(self.base_url.removesuffix('/v1'))}/ [dim](tunesmith open signs in)[/dim]",
            "API key": self._key(),
            "base model": escape(self.settings.base_model),
            "aliases": f"{escape(self._aliases())} [dim](tunesmith models list)[/dim]",
            "data": escape(str(self.settings.paths.root)),
            **{name: escape(where) for name, where in self._elsewhere().items()},
            "worker": "one, beside the API" if self.worker else "none here (tunesmith worker)",
        }

    def _key(self) -> str:
        from rich.markup import escape

        from tunesmith.cli.output.terminal import shows_secrets

        key_file = self.settings.paths.api_key_file
        if self.first_key is not None and shows_secrets():
            return f"{self.first_key}\n[dim]shown only this once; also in {escape(str(key_file))}[/dim]"
        return f"in {escape(str(key_file))}" if key_file.is_file() else "make one with: tunesmith keys create NAME"

    def _elsewhere(self) -> dict[str, str]:
        """What is not kept in the data directory."""
        from sqlalchemy import make_url

        found = {}
        if self.settings.database_url is not None:
            found["database"] = make_url(self.settings.database_url).render_as_string(hide_password=True)
        if self.settings.storage is not None:
            found["files"] = self.settings.storage
        return found

    def _aliases(self) -> str:
        from tunesmith.models.registry import alias_table, default_base
        from tunesmith.store import read_aliases

        default = default_base(self.settings)
        known = alias_table(self.settings, read_aliases(self.settings))
        aliases = sorted(alias for alias, base in known.items() if base == default)
        shown = ", ".join(aliases[:3]) + (f" and {len(aliases) - 3} more" if len(aliases) > 3 else "")
        return shown or "none"


def _warn_of_second_worker(settings: "Settings", own_url: str) -> None:
    """Warns when another server trains on this data directory.

    Two are safe, but their workers train two jobs at once on the same cores.
    """
    from tunesmith.cli.output.terminal import warn
    from tunesmith.cli.server.find import running_server

    found = running_server(settings, own_url=own_url)
    if found is not None:
        warn(
            f"a server with a worker already runs on {settings.paths.root} ({found.base_url}, process {found.pid});"
            " two jobs at once will share the cores, and commands talk to the first. --no-worker leaves training to it."
        )


def _prepare_base(settings: "Settings") -> None:
    """Fetches and converts the default base, so that no job or chat waits for it.

    Without a network the server starts all the same: other bases and all files, jobs and models still work.
    """
    from tunesmith.cli.bases import base_here
    from tunesmith.cli.output.pull_progress import PullProgress
    from tunesmith.cli.output.terminal import warn
    from tunesmith.cli.output.waiting import Waiting
    from tunesmith.errors import InvalidRequest, ServerFault
    from tunesmith.models.directory import is_present, materialise, pull
    from tunesmith.models.registry import HubRepository, alias_table
    from tunesmith.system import activity

    base = base_here(None, settings)
    alias_table(settings)  # a wrong alias ends the server before it starts
    if isinstance(base.source, HubRepository):
        return  # perhaps gigabytes: fetched when first used, or by `tunesmith models pull`
    try:
        if is_present(base, settings):
            with Waiting(f"preparing the base model {base.name}", activity.here):
                materialise(base, settings)
        else:
            with PullProgress(base.name) as progress:
                pull(base, settings, progress.started)
    except (InvalidRequest, ServerFault) as error:
        warn(f"{error.message} Until then jobs on {base.name} fail.")
