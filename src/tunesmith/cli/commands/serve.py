"""`tunesmith serve` and `tunesmith worker`: the processes that stay."""

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.options import DataDir

if TYPE_CHECKING:
    from tunesmith.settings import Settings
    from tunesmith.store import Store


def serve(
    host: Annotated[
        str | None,
        typer.Option(help="Address to listen on (TUNESMITH_HOST); 127.0.0.1 unless set.", show_default=False),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Port to listen on (TUNESMITH_PORT); 8000 unless set, 0 takes a free one.",
            show_default=False,
        ),
    ] = None,
    data_dir: DataDir = None,
    worker: Annotated[bool, typer.Option(help="Also train: run one worker beside the API.")] = True,
    ready_file: Annotated[
        Path | None,
        typer.Option(
            help="Write address and process id here, as JSON, once requests are answered.", show_default=False
        ),
    ] = None,
    exit_when_idle: Annotated[
        float | None,
        typer.Option(min=1, help="Stop after so many seconds without a request or an active job.", show_default=False),
    ] = None,
    log_level: Annotated[str, typer.Option(help="debug, info (a line a request), warning or error.")] = "info",
) -> None:
    """Run the API and one worker, until Ctrl-C."""
    from tunesmith.cli.configure import load_settings
    from tunesmith.cli.server.run import ServeOptions, bind, run_server, set_log_level, url_of

    settings = load_settings(data_dir, host=host, port=port)
    set_log_level(log_level)
    listener = bind(settings.host, settings.port)
    if worker:
        _warn_of_neighbour(settings)
    store, first_key = _open(settings)
    try:
        _prepare_base(settings)
        options = ServeOptions(with_worker=worker, idle_seconds=exit_when_idle, ready_file=ready_file, announce=worker)
        run_server(settings, store, listener, options, lambda: _banner(settings, url_of(listener), first_key, worker))
    finally:
        store.close()
    from tunesmith.cli.output.terminal import note

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


def _open(settings: "Settings") -> "tuple[Store, str | None]":
    """The store, and at the very first start the API key to show once."""
    from tunesmith.store import open_store

    store = open_store(settings)
    try:
        return store, store.keys.ensure_first(settings.paths.api_key_file)
    except BaseException:
        store.close()
        raise


def _warn_of_neighbour(settings: "Settings") -> None:
    """Two servers on one data directory are sound, but their workers train two jobs at once on the same cores."""
    from tunesmith.cli.output.terminal import warn
    from tunesmith.cli.server.find import running_server

    found = running_server(settings)
    if found is not None:
        warn(
            f"a server with a worker runs on {settings.paths.root} already ({found.base_url}, process {found.pid});"
            " two jobs at once will share the cores. --no-worker leaves training to it."
        )


def _prepare_base(settings: "Settings") -> None:
    """Fetches and converts the default base now, so that neither the first job nor the first chat waits for it.

    Without a network the server starts all the same: other bases and all files, jobs and models still work.
    """
    from tunesmith.cli.output.terminal import err, warn
    from tunesmith.errors import ServerFault
    from tunesmith.models.directory import is_present, pull
    from tunesmith.models.registry import HubRepository, resolve_base

    base = resolve_base(settings.base_model, settings)
    if isinstance(base.source, HubRepository):
        return  # gigabytes, perhaps: fetched when first used, or by `tunesmith models pull`
    doing = "Preparing" if is_present(base, settings) else "Fetching"
    try:
        with err().status(f"{doing} the base model {base.name} …"):
            pull(base, settings)
    except ServerFault as error:
        warn(f"{error.message} Until then jobs on {base.name} fail.")


def _banner(settings: "Settings", base_url: str, first_key: str | None, worker: bool) -> None:
    from rich.markup import escape

    from tunesmith import __version__
    from tunesmith.cli.output.terminal import facts, out, warn

    key_file = settings.paths.api_key_file
    if first_key is not None:
        key = f"{first_key}\n[dim]shown this once; also in {escape(str(key_file))}[/dim]"
    else:
        key = f"in {escape(str(key_file))}" if key_file.is_file() else "make one with: tunesmith keys create NAME"
    aliases = sorted(alias for alias, base in settings.aliases.items() if base == settings.base_model)
    shown = ", ".join(aliases[:3]) + (f" and {len(aliases) - 3} more" if len(aliases) > 3 else "")
    console = out()
    console.print(f"\n[bold]Tunesmith[/bold] {__version__}\n")
    console.print(
        facts(
            {
                "base URL": f"[bold]{base_url}[/bold]",
                "API key": key,
                "base model": settings.base_model,
                "aliases": f"{shown or 'none'} [dim](tunesmith models list)[/dim]",
                "data": escape(str(settings.paths.root)),
                "worker": "one, beside the API" if worker else "none here (tunesmith worker)",
            }
        )
    )
    console.print(f"\nIn another terminal:\n  export OPENAI_BASE_URL={base_url}", soft_wrap=True)
    console.print(f"  export OPENAI_API_KEY=$(cat {key_file})", soft_wrap=True, markup=False)
    console.print("\n[dim]Ctrl-C stops the server.[/dim]")
    if settings.host not in ("127.0.0.1", "::1", "localhost"):
        warn(f"{settings.host} can be reached from the network, over plain HTTP. Put a TLS proxy in front of it.")
