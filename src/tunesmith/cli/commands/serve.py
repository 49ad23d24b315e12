"""`tunesmith serve` and `tunesmith worker`: the processes that keep running."""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.options import DataDir
from tunesmith.cli.signature import takes

if TYPE_CHECKING:
    from tunesmith.cli.server.run import ServeOptions
    from tunesmith.settings import Settings
    from tunesmith.store import Store


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
    log_level: Annotated[str, typer.Option(help="debug, info (one line per request), warning or error.")] = "info"

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
    from tunesmith.cli.configure import load_settings
    from tunesmith.cli.output.terminal import note
    from tunesmith.cli.server.listener import bind, url_of
    from tunesmith.cli.server.run import run_server, set_log_level

    settings = load_settings(command.data_dir, host=command.host, port=command.port)
    set_log_level(command.log_level)
    listener = bind(settings.host, settings.port)
    if command.worker:
        _warn_of_second_worker(settings)
    store, first_key = _open(settings)
    try:
        _prepare_base(settings)
        banner = Banner(settings, url_of(listener), first_key, command.worker)
        run_server(settings, store, listener, command.server_options(), banner.print)
    finally:
        store.close()
    note("Stopped. Unfinished jobs go on at the next start.")


def worker(data_dir: DataDir = None) -> None:
    """Run one worker alone, beside servers on the same data directory or database."""
    import signal

    from tunesmith.cli.configure import load_settings
    from tunesmith.cli.output.terminal import note
    from tunesmith.store import open_store
    from tunesmith.worker import run_worker

    settings = load_settings(data_dir)
    store = open_store(settings)  # the first key is left to `serve`, which prints it
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    _prepare_base(settings)
    note(f"Worker on {settings.paths.root}. Ctrl-C stops it; an unfinished job goes on with the next worker.")
    try:
        run_worker(store, settings, stop)
    finally:
        store.close()
    note("Stopped.")


@dataclass(frozen=True, slots=True)
class Banner:
    """What a server says once it answers: everything that a client needs."""

    settings: "Settings"
    base_url: str
    first_key: str | None  # shown once, at the very first start
    worker: bool

    def print(self) -> None:
        """Prints the banner, and a warning if the server is open to the network."""
        from tunesmith import __version__
        from tunesmith.cli.output.terminal import facts, out, warn

        console = out()
        console.print(f"\n[bold]Tunesmith[/bold] {__version__}\n")
        console.print(facts(self._facts()))
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
            "API key": self._key(),
            "base model": escape(self.settings.base_model),
            "aliases": f"{escape(self._aliases())} [dim](tunesmith models list)[/dim]",
            "data": escape(str(self.settings.paths.root)),
            "worker": "one, beside the API" if self.worker else "none here (tunesmith worker)",
        }

    def _key(self) -> str:
        from rich.markup import escape

        key_file = self.settings.paths.api_key_file
        if self.first_key is not None:
            return f"{self.first_key}\n[dim]shown only this once; also in {escape(str(key_file))}[/dim]"
        return f"in {escape(str(key_file))}" if key_file.is_file() else "make one with: tunesmith keys create NAME"

    def _aliases(self) -> str:
        from tunesmith.models.registry import alias_table, default_base

        default = default_base(self.settings)
        aliases = sorted(alias for alias, base in alias_table(self.settings).items() if base == default)
        shown = ", ".join(aliases[:3]) + (f" and {len(aliases) - 3} more" if len(aliases) > 3 else "")
        return shown or "none"


def _open(settings: "Settings") -> "tuple[Store, str | None]":
    """The store, and at the very first start the API key to show once."""
    from tunesmith.store import open_store

    store = open_store(settings)
    try:
        return store, store.keys.ensure_first(settings.paths.api_key_file)
    except BaseException:
        store.close()
        raise


def _warn_of_second_worker(settings: "Settings") -> None:
    """Warns when another server trains on this data directory.

    Two are safe, but their workers train two jobs at once on the same cores.
    """
    from tunesmith.cli.output.terminal import warn
    from tunesmith.cli.server.find import running_server

    found = running_server(settings)
    if found is not None:
        warn(
            f"a server with a worker already runs on {settings.paths.root} ({found.base_url}, process {found.pid});"
            " two jobs at once will share the cores. --no-worker leaves training to it."
        )


def _prepare_base(settings: "Settings") -> None:
    """Fetches and converts the default base, so that no job or chat waits for it.

    Without a network the server starts all the same: other bases and all files, jobs and models still work.
    """
    from tunesmith.cli.output.pull_progress import PullProgress
    from tunesmith.cli.output.terminal import err, warn
    from tunesmith.errors import InvalidRequest, ServerFault
    from tunesmith.models.directory import is_present, materialise, pull
    from tunesmith.models.registry import HubRepository, alias_table, default_base

    alias_table(settings)  # a wrong alias ends the server before it starts
    base = default_base(settings)
    if isinstance(base.source, HubRepository):
        return  # perhaps gigabytes: fetched when first used, or by `tunesmith models pull`
    try:
        if is_present(base, settings):
            with err().status(f"Preparing the base model {base.name} …"):
                materialise(base, settings)
        else:
            with PullProgress(base.name) as progress:
                pull(base, settings, progress.started)
    except (InvalidRequest, ServerFault) as error:
        warn(f"{error.message} Until then jobs on {base.name} fail.")
