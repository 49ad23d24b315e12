"""`tunesmith models delete`, `replace` and `replacements`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from tunesmith.cli.exits import CommandError, Exit, require_terminal
from tunesmith.cli.options import AsJson, BaseUrl, DataDir, Yes, named


def delete(
    name: Annotated[
        str,
        typer.Argument(help="Tuned model or checkpoint (ft:…).", metavar="MODEL", show_default=False, callback=named),
    ],
    yes: Yes = False,
    base_url: BaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Delete a tuned model and its files. This cannot be undone."""
    from tunesmith.cli.configure import again, load_settings
    from tunesmith.cli.names import naming_models
    from tunesmith.cli.output.terminal import print_plain, warn
    from tunesmith.cli.server.find import ask

    require_terminal(name, yes)
    with ask(load_settings(data_dir), base_url) as client:
        if not yes:
            typer.confirm(f"Delete {name} and its files for good?", abort=True)
        with naming_models(client, name):
            kept = client.delete_model(name)
    print_plain(f"{name} is deleted.")
    for old in kept:
        warn(
            f"its weights still answer as {old}, and their files stay for that."
            f" End it with: {again('models replace')} {old} --undo"
        )


def replace(
    name: Annotated[
        str, typer.Argument(help="Imported model name.", metavar="OLD", show_default=False, callback=named)
    ],
    by: Annotated[
        str | None,
        typer.Argument(
            help="Model trained on this server, its job, or last.", metavar="NEW", show_default=False, callback=named
        ),
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Let OLD stand for no model again.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Serve a model trained here under an imported name, so that code need not change.

    No server is needed. `tunesmith models replacements` lists the imported names.
    """
    from tunesmith.cli.commands.tuned.find import find_model
    from tunesmith.cli.local_store import open_local_store
    from tunesmith.cli.output.terminal import print_plain

    if undo == (by is not None):
        raise CommandError("Give the NEW model, or --undo, and not both.", Exit.USAGE)
    with open_local_store(data_dir) as store, _naming():
        if by is None:
            store.models.undo_replace(name)
        else:
            by = find_model(store, by).name if by == "last" or by.startswith("ftjob-") else by
            store.models.replace(name, by)
    print_plain(f"{name} is now answered by {by}." if by else f"{name} is no longer answered by another model.")


@contextmanager
def _naming() -> Iterator[None]:
    """Names the commands that list what can be replaced, where a model does not exist."""
    from tunesmith.cli.configure import again
    from tunesmith.errors import NotFound

    try:
        yield
    except NotFound as error:
        raise CommandError(
            f"{error.message}. `{again('models replacements')}` shows the imported names, `{again('models list')}` the"
            " models trained here."
        ) from error


def replacements(as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """List the imported names, and the models that answer for them."""
    from rich.markup import escape

    from tunesmith.cli.local_store import open_local_store
    from tunesmith.cli.output.terminal import listing, note, print_json, print_table

    with open_local_store(data_dir) as store:
        found = store.models.replacements()
        alive = {row.name for row in store.models.among([by for by in found.values() if by])}
    if as_json:
        print_json(found)
    elif not found:
        note("No names are imported. Import them: tunesmith import openai FOLDER")
    else:
        table = listing("imported name", "answered by")
        for name, by in found.items():
            gone = " [dim](deleted; its weights stay for this name)[/dim]" if by not in alive else ""
            table.add_row(escape(name), f"{escape(by)}{gone}" if by else "[dim]no model yet[/dim]")
        print_table(table)
        note("Change one: tunesmith models replace OLD NEW; take it back: tunesmith models replace OLD --undo")
