"""`tunesmith models …`: the models that can be trained and used."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.exits import CommandError, Exit, require_terminal
from tunesmith.cli.options import AsJson, BaseUrl, DataDir, Yes, named

if TYPE_CHECKING:
    from rich.table import Table

    from tunesmith.client import Model
    from tunesmith.settings import Settings

app = typer.Typer(help="List, add, pull, replace and delete models.", no_args_is_help=True)


@app.command("list")
def list_models(as_json: AsJson = False, base_url: BaseUrl = None, data_dir: DataDir = None) -> None:
    """List base models, the OpenAI names that are aliases for them, and tuned models."""
    from rich.markup import escape

    from tunesmith.cli.configure import load_settings
    from tunesmith.cli.output.terminal import ago, listing, note, out, print_json, print_table
    from tunesmith.cli.server.find import connect

    settings = load_settings(data_dir)
    with connect(settings, base_url) as connection:
        models = connection.client.models()
    if as_json:
        print_json([model.wire for model in models])
        return
    print_table(_bases(models, {} if base_url else _facts(settings)))
    out().print()
    tuned = [model for model in reversed(models) if model.id.startswith("ft:")]
    if not tuned:
        note("No tuned models yet. Make one: tunesmith train FILE")
        return
    table = listing("tuned models", "created")
    for model in sorted(tuned, key=lambda one: one.created, reverse=True):  # newest first, as other lists
        table.add_row(escape(model.id), ago(model.created))
    print_table(table)


@app.command()
def pull(
    name: Annotated[
        str | None,
        typer.Argument(help="Base model or alias; the default base if omitted.", metavar="MODEL", callback=named),
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Download a base model's weights and prepare them."""
    from tunesmith.cli.bases import base_here
    from tunesmith.cli.configure import again, load_settings
    from tunesmith.cli.output.pull_progress import PullProgress
    from tunesmith.cli.output.terminal import note, print_json, print_plain
    from tunesmith.models.directory import pull as pull_weights
    from tunesmith.models.registry import LocalDirectory

    settings = load_settings(data_dir)
    base = base_here(name, settings)
    if isinstance(base.source, LocalDirectory):
        note(f"{base.name} is the directory {base.source.path}: nothing to download, only to check.")
    try:
        with PullProgress(base.name) as progress:
            directory = pull_weights(base, settings, progress.started)
    except KeyboardInterrupt:
        note(f"Interrupted; {base.name} is not complete. Continue: {again(f'models pull {base.name}')}")
        raise
    if as_json:
        print_json({"model": base.name, "directory": str(directory)})
    else:
        print_plain(f"{base.name} is ready in {directory}")


NewBase = Annotated[
    str, typer.Argument(help="Name for jobs and requests.", metavar="NAME", show_default=False, callback=named)
]


@app.command()
def add(
    name: NewBase,
    source: Annotated[
        str,
        typer.Argument(
            help="Hub repository (OWNER/NAME), or a directory.", metavar="SOURCE", show_default=False, callback=named
        ),
    ],
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Add a base model to tunesmith.toml. A running server must be restarted."""
    from tunesmith.cli.configure import again, load_settings
    from tunesmith.cli.output.terminal import note, print_json, print_plain
    from tunesmith.cli.settings_file import set_entry
    from tunesmith.models.registry import BASE_NAME

    file = load_settings(data_dir).paths.root / "tunesmith.toml"
    if not BASE_NAME.fullmatch(name):
        raise CommandError(f"{name!r} cannot be the name of a base. Use letters, digits, '.', '_', '-' and '/' only.")
    where = _base_source(name, source)
    set_entry(file, "bases", name, where)
    if as_json:
        print_json({"model": name, "source": where, "file": str(file)})
        return
    print_plain(f"{name} is a base now ({where}; in {file})")
    if not Path(where).is_absolute():
        note(f"Next, download it: {again(f'models pull {name}')}")
    note("A running server must be restarted to know it.")


def _base_source(name: str, source: str) -> str:
    """What to write into the settings: a hub id, or a directory's whole path if it holds a base."""
    from tunesmith.errors import InvalidRequest
    from tunesmith.models.base_check import check_base
    from tunesmith.models.registry import HUB_ID

    path = Path(source).expanduser()
    if HUB_ID.fullmatch(source) and not path.is_dir():
        return source
    try:
        check_base(path.absolute(), name)
    except InvalidRequest as error:
        raise CommandError(f"{error.message} ({path.absolute()})") from error
    return str(path.absolute())


@app.command()
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
    from tunesmith.cli.configure import load_settings
    from tunesmith.cli.names import naming_models
    from tunesmith.cli.output.terminal import print_plain
    from tunesmith.cli.server.find import connect

    require_terminal(name, yes)
    with connect(load_settings(data_dir), base_url) as connection:
        if not yes:
            typer.confirm(f"Delete {name} and its files for good?", abort=True)
        with naming_models(connection.client, name):
            connection.client.delete_model(name)
    print_plain(f"{name} is deleted.")


@app.command()
def replace(
    name: Annotated[
        str, typer.Argument(help="Imported model name.", metavar="OLD", show_default=False, callback=named)
    ],
    by: Annotated[
        str | None,
        typer.Argument(help="Model trained on this server.", metavar="NEW", show_default=False, callback=named),
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Let OLD stand for no model again.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Serve a model trained here under an imported name, so that code need not change.

    No server is needed. `tunesmith models replacements` lists the imported names.
    """
    from tunesmith.cli.local_store import open_local_store
    from tunesmith.cli.output.terminal import print_plain

    if undo == (by is not None):
        raise CommandError("Give the NEW model, or --undo, and not both.", Exit.USAGE)
    with open_local_store(data_dir) as store, _naming():
        if by is None:
            store.models.undo_replace(name)
        else:
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


@app.command()
def replacements(as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """List the imported names, and the models that answer for them."""
    from rich.markup import escape

    from tunesmith.cli.local_store import open_local_store
    from tunesmith.cli.output.terminal import listing, note, print_json, print_table

    with open_local_store(data_dir) as store:
        found = store.models.replacements()
    if as_json:
        print_json(found)
    elif not found:
        note("No names are imported. Import them: tunesmith import openai FOLDER")
    else:
        table = listing("imported name", "answered by")
        for name, by in found.items():
            table.add_row(escape(name), escape(by) if by else "[dim]no model yet[/dim]")
        print_table(table)
        note("Change one: tunesmith models replace OLD NEW; take it back: tunesmith models replace OLD --undo")


def _facts(settings: "Settings") -> "dict[str, tuple[str, str]]":
    """Of each base that the settings of this machine name: parameters, and weights."""
    from tunesmith.errors import TunesmithError
    from tunesmith.models.facts import base_facts
    from tunesmith.models.registry import default_base, list_bases

    default, found = default_base(settings).name, {}
    for base in list_bases(settings):
        mark = "default; " if base.name == default else ""
        try:
            facts = base_facts(base, settings)
        except TunesmithError as error:
            found[base.name] = ("-", f"{mark}{error.message}")
        else:
            found[base.name] = (_millions(facts.parameters), f"{mark}{facts.weights}")
    return found


def _millions(parameters: int | None) -> str:
    return "-" if parameters is None else f"{parameters / 1e6:,.0f} million"


def _bases(models: "list[Model]", facts: "dict[str, tuple[str, str]]") -> "Table":
    """A row for each base model, with what is known of it here, and its aliases."""
    from rich.markup import escape

    from tunesmith.cli.output.terminal import listing

    aliases: dict[str, list[str]] = {}
    for model in models:
        kind, _, base = model.owned_by.partition(":")
        if kind == "alias-of":
            aliases.setdefault(base, []).append(model.id)
    named = {alias for names in aliases.values() for alias in names}
    table = listing("base models", *(("parameters", "weights") if facts else ()), "also called")
    for model in models:
        if model.id not in named and not model.id.startswith("ft:"):
            known = facts.get(model.id, ("-", "-")) if facts else ()
            table.add_row(escape(model.id), *map(escape, known), escape(", ".join(aliases.get(model.id, []))) or "-")
    return table
