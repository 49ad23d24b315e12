"""The commands and their groups."""

from collections.abc import Callable
from functools import cache
from typing import Annotated

import typer
from typer.main import get_command

from tunesmith import __version__
from tunesmith.cli.commands import (
    chat,
    database,
    demo,
    doctor,
    files,
    jobs,
    keys,
    models,
    open_dashboard,
    projects,
    serve,
    storage,
    train,
    usage,
)
from tunesmith.cli.commands.data import check, estimate, evaluate, fix, imports, replay
from tunesmith.cli.commands.tuned import card, export, reproduce
from tunesmith.cli.options import AsJson

FIRST_STEPS = (
    "First steps: `tunesmith demo` trains and compares a small model in a few minutes. With a file of your own:"
    " `tunesmith check FILE`, then `tunesmith train FILE`."
)

app = typer.Typer(
    name="tunesmith",
    help="Fine-tune and serve open models on your own machine, through OpenAI's API.",
    epilog=FIRST_STEPS,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tunesmith {__version__}")
        raise typer.Exit


@app.callback()
def root(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Fine-tune and serve open models on your own machine, through OpenAI's API."""


@app.command()
def version(as_json: AsJson = False) -> None:
    """Print the versions of Tunesmith, Python and torch."""
    import platform
    from importlib.metadata import version as installed

    from tunesmith.cli.output.terminal import print_json, print_plain

    found = {"tunesmith": __version__, "python": platform.python_version(), "torch": installed("torch")}
    if as_json:
        print_json(found)
    else:
        print_plain("\n".join(f"{name} {number}" for name, number in found.items()))


SERVER = "Server"
DATA = "Data"
WORK = "Train and chat"

app.command(rich_help_panel=WORK)(demo.demo)
app.command(rich_help_panel=WORK)(train.train)
app.command(rich_help_panel=WORK)(chat.chat)
app.command("eval", rich_help_panel=WORK)(evaluate.evaluate)
app.command(rich_help_panel=WORK)(export.export)
app.command(rich_help_panel=WORK)(reproduce.reproduce)
models.app.command()(card.card)
app.add_typer(jobs.app, name="jobs", rich_help_panel=WORK)
app.add_typer(files.app, name="files", rich_help_panel=WORK)
app.add_typer(models.app, name="models", rich_help_panel=WORK)
app.add_typer(imports.app, name="import", rich_help_panel=DATA)
app.command(rich_help_panel=DATA)(check.check)
app.command(rich_help_panel=DATA)(estimate.estimate)
app.command(rich_help_panel=DATA)(fix.fix)
app.command(rich_help_panel=DATA)(replay.replay)
app.command(rich_help_panel=SERVER)(serve.serve)
app.command(rich_help_panel=SERVER)(serve.worker)
app.command("open", rich_help_panel=SERVER)(open_dashboard.open_dashboard)
app.add_typer(keys.app, name="keys", rich_help_panel=SERVER)
app.add_typer(projects.app, name="projects", rich_help_panel=SERVER)
app.add_typer(storage.app, name="storage", rich_help_panel=SERVER)
app.command(rich_help_panel=SERVER)(usage.usage)
app.command(rich_help_panel=SERVER)(doctor.doctor)
app.command(rich_help_panel=SERVER)(database.migrate)
app.add_typer(database.app, name="db", rich_help_panel=SERVER)


@cache
def command() -> Callable[..., object]:
    """All of it as the parser has it; made once, which takes some 50 ms."""
    made: Callable[..., object] = get_command(app)
    return made
