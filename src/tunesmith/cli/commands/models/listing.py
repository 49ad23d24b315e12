"""`tunesmith models list`."""

from typing import TYPE_CHECKING

from tunesmith.cli.options import AsJson, BaseUrl, DataDir

if TYPE_CHECKING:
    from rich.table import Table

    from tunesmith.client import Model
    from tunesmith.settings import Settings


def list_models(as_json: AsJson = False, base_url: BaseUrl = None, data_dir: DataDir = None) -> None:
    """List base models, the OpenAI names that are aliases for them, and tuned models."""
    from rich.markup import escape

    from tunesmith.cli.configure import load_settings
    from tunesmith.cli.output.terminal import ago, listing, note, out, print_json, print_table
    from tunesmith.cli.server.find import ask

    settings = load_settings(data_dir)
    with ask(settings, base_url) as client:
        models = client.models()
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
