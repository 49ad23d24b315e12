"""`tunesmith models …`: what can be trained and asked."""

from typing import Annotated

import typer

from tunesmith.cli.exits import CommandError
from tunesmith.cli.options import AsJson, BaseUrl, DataDir

app = typer.Typer(help="List, pull, replace and delete models.", no_args_is_help=True)


@app.command("list")
def list_models(as_json: AsJson = False, base_url: BaseUrl = None, data_dir: DataDir = None) -> None:
    """List base models, the OpenAI names that stand for them, and your tuned models."""
    from tunesmith.cli.configure import load_settings
    from tunesmith.cli.output.terminal import ago, listing, note, out, print_json
    from tunesmith.cli.server.find import connect

    with connect(load_settings(data_dir), base_url) as connection:
        models = connection.client.models()
    if as_json:
        print_json([model.wire for model in models])
        return
    aliases: dict[str, list[str]] = {}
    tuned = listing("tuned models", "created")
    bases = []
    for model in models:
        kind, _, base = model.owned_by.partition(":")
        if kind == "alias-of":
            aliases.setdefault(base, []).append(model.id)
        elif model.id.startswith("ft:"):
            tuned.add_row(model.id, ago(model.created))
        else:
            bases.append(model.id)
    table = listing("base models", "also called")
    for base in bases:
        table.add_row(base, ", ".join(aliases.get(base, [])) or "-")
    out().print(table)
    out().print()
    if tuned.row_count:
        out().print(tuned)
    else:
        note("No tuned models yet. Make one: tunesmith train FILE")


@app.command()
def pull(
    name: Annotated[
        str | None, typer.Argument(help="Base model or alias; the default base unless named.", metavar="MODEL")
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Fetch a base model's weights to this machine and prepare them."""
    from tunesmith.cli.configure import load_settings
    from tunesmith.cli.output.terminal import err, print_json, print_plain
    from tunesmith.models.directory import pull as pull_weights
    from tunesmith.models.registry import resolve_base

    settings = load_settings(data_dir)
    base = resolve_base(name or settings.base_model, settings)
    with err().status(f"Fetching {base.name} …"):
        directory = pull_weights(base, settings)
    if as_json:
        print_json({"model": base.name, "directory": str(directory)})
    else:
        print_plain(f"{base.name} is ready in {directory}")


@app.command()
def delete(
    name: Annotated[str, typer.Argument(help="Tuned model or checkpoint (ft:…).", metavar="MODEL", show_default=False)],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    base_url: BaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Delete a tuned model and its files. There is no way back."""
    import sys

    from tunesmith.cli.configure import load_settings
    from tunesmith.cli.output.terminal import print_plain
    from tunesmith.cli.server.find import connect

    if not yes and not sys.stdin.isatty():
        raise CommandError(f"Deleting {name} cannot be undone and nobody is here to ask. Add --yes.")
    with connect(load_settings(data_dir), base_url) as connection:
        if not yes:
            typer.confirm(f"Delete {name} and its files for good?", abort=True)
        connection.client.delete_model(name)
    print_plain(f"{name} is deleted.")


@app.command()
def replace(
    name: Annotated[str, typer.Argument(help="Name that was imported.", metavar="OLD", show_default=False)],
    by: Annotated[str, typer.Argument(help="Tuned model of this server.", metavar="NEW", show_default=False)],
    data_dir: DataDir = None,
) -> None:
    """Let an imported name be answered by a model trained here, so that code need not change. No server needed."""
    from tunesmith.cli.commands.keys import open_here
    from tunesmith.cli.output.terminal import print_plain

    with open_here(data_dir) as store:
        store.models.replace(name, by)
    print_plain(f"{name} is now answered by {by}.")
