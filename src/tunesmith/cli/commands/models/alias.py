"""`tunesmith models alias`: other names of bases."""

from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.exits import CommandError, Exit
from tunesmith.cli.local_store import note as audit
from tunesmith.cli.options import DataDir, named

if TYPE_CHECKING:
    from tunesmith.store import Store


def alias(
    name: Annotated[str, typer.Argument(help="The other name.", metavar="NAME", show_default=False, callback=named)],
    base: Annotated[
        str | None,
        typer.Argument(help="Base that it stands for.", metavar="BASE", show_default=False, callback=named),
    ] = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Take the name back; what the settings say of it holds again.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Let a name, such as gpt-4o-mini, stand for a base, also on running servers."""
    from tunesmith.cli.configure import load_settings
    from tunesmith.cli.local_store import open_local_store
    from tunesmith.cli.output.terminal import print_plain
    from tunesmith.models.registry import new_alias

    if remove == (base is not None):
        raise CommandError("Give the BASE, or --remove, and not both.", Exit.USAGE)
    settings = load_settings(data_dir)
    with open_local_store(data_dir) as store:
        if base is None:
            _remove(store, name)
            print_plain(f"{name} is no longer set here.")
            return
        found = new_alias(name, base, settings, store.aliases.all())
        store.aliases.set(name, found.name)
        audit("alias.set", name, base=found.name)
    print_plain(f"{name} stands for {found.name} now.")


def _remove(store: "Store", name: str) -> None:
    if not store.aliases.remove(name):
        raise CommandError(_not_set(name, set(store.aliases.all())))
    audit("alias.removed", name)


def _not_set(name: str, others: set[str]) -> str:
    known = f"Set so: {', '.join(sorted(others))}." if others else "None is."
    return (
        f"The alias {name} was not set with this command, so it cannot be removed. {known} Those of the setting"
        f' `aliases` and of OpenAI\'s models are taken away in tunesmith.toml: [aliases] {name} = ""'
    )
