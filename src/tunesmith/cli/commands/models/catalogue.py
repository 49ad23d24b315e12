"""`tunesmith models catalogue`: bases that people tune."""

from typing import TYPE_CHECKING

from tunesmith.cli.options import AsJson

if TYPE_CHECKING:
    from tunesmith.models.catalogue import Figure


def catalogue(as_json: AsJson = False) -> None:
    """List bases that `models add` knows by name, with licence and size.

    Every figure has a source (--json, docs/bases.md); what no source says is left out.
    """
    from dataclasses import asdict

    from rich.markup import escape

    from tunesmith.cli.output.terminal import listing, note, print_json, print_table
    from tunesmith.models.catalogue import catalogue as entries

    if as_json:
        print_json([asdict(entry) for entry in entries().values()])
        return
    table = listing("name", "repository", "billions", "context", "licence", "LoRA rate", right=("billions", "context"))
    for entry in entries().values():
        figures = (entry.parameters, entry.context, entry.licence, entry.rate)
        table.add_row(escape(entry.name), escape(entry.hub), *map(_shown, figures))
    print_table(table)
    note("Add one: tunesmith models add NAME")


def _shown(figure: "Figure | None") -> str:
    from rich.markup import escape

    if figure is None:
        return "-"
    value = figure.value
    if isinstance(value, str):
        return escape(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
