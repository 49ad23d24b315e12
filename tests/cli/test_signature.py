"""A command's options as a dataclass: what Typer makes of its fields."""

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from tunesmith.cli.signature import takes


@dataclass(frozen=True, slots=True)
class Size:
    """Options of their own."""

    width: Annotated[int, typer.Option(min=1, help="How wide.")] = 3
    height: Annotated[int | None, typer.Option(help="How high.", show_default=False)] = None


@dataclass(frozen=True, slots=True)
class Options:
    """An argument, an option, options of another dataclass, and a flag."""

    name: Annotated[str, typer.Argument(metavar="NAME")]
    colour: Annotated[str, typer.Option(help="Which colour.")] = "red"
    size: Size = Size()
    loud: Annotated[bool, typer.Option("--loud")] = False


@pytest.fixture
def paint() -> tuple[typer.Typer, list[Options]]:
    app, seen = typer.Typer(add_completion=False), list[Options]()

    @app.command()
    @takes(Options)
    def command(options: Options) -> None:
        """Paint something."""
        seen.append(options)

    return app, seen


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (["door"], Options("door")),
        (["door", "--colour", "blue", "--loud"], Options("door", colour="blue", loud=True)),
        (["--width", "5", "door", "--height", "7"], Options("door", size=Size(5, 7))),
    ],
)
def test_command_gets_one_object_with_all_options(
    paint: tuple[typer.Typer, list[Options]], arguments: list[str], options: Options
) -> None:
    app, seen = paint
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert seen == [options]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [([], "Missing argument 'NAME'"), (["door", "--width", "0"], "--width"), (["door", "--size", "1"], "--size")],
)
def test_wrong_options_never_reach_the_command(
    paint: tuple[typer.Typer, list[Options]], arguments: list[str], said: str
) -> None:
    app, seen = paint
    ran = CliRunner().invoke(app, arguments)
    assert ran.exit_code == 2
    assert said in ran.output
    assert seen == []


def test_help_lists_options_in_the_order_of_the_fields(paint: tuple[typer.Typer, list[Options]]) -> None:
    shown = CliRunner().invoke(paint[0], ["--help"]).output
    assert "Paint something." in shown
    places = [shown.index(text) for text in ("--colour", "Which colour.", "--width", "How high.", "--loud")]
    assert places == sorted(places)
    assert "[default: 3]" in shown
