"""`tunesmith models add`: a base from the hub, a directory or a GGUF file."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.exits import CommandError, Exit
from tunesmith.cli.options import AsJson, DataDir, named
from tunesmith.cli.signature import takes

if TYPE_CHECKING:
    from tunesmith.cli.commands.models.look import Found
    from tunesmith.jsonvalue import JsonObject
    from tunesmith.models.registry import BaseModel, GgufFile, HubRepository, LocalDirectory
    from tunesmith.settings import Settings

NewBase = Annotated[
    str, typer.Argument(help="Name for jobs and requests.", metavar="NAME", show_default=False, callback=named)
]
Source = Annotated[
    str | None,
    typer.Argument(
        help="Hub repository (OWNER/NAME), directory or GGUF file. Default: what the catalogue has under NAME.",
        metavar="[SOURCE]",
        show_default=False,
        callback=named,
    ),
]
From = Annotated[
    str | None, typer.Option("--from", help="The same as SOURCE.", metavar="SOURCE", show_default=False, callback=named)
]


@dataclass(frozen=True, slots=True)
class Options:
    """What the command takes."""

    name: NewBase
    source: Source = None
    from_: From = None
    later: Annotated[bool, typer.Option("--no-pull", help="Only write it down: nothing is looked up or fetched.")] = (
        False
    )
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show licence, size and needs.")] = False
    anyway: Annotated[bool, typer.Option("--anyway", help="Also a base that does not fit this machine.")] = False
    as_json: AsJson = False
    data_dir: DataDir = None


@takes(Options)
def add(options: Options) -> None:
    """Add a base model: shows licence, size and needs, then fetches it.

    What is fetched is kept at its commit or digest. Goes into tunesmith.toml; a running server must be restarted.
    """
    from tunesmith.cli.configure import load_settings
    from tunesmith.models.registry import BASE_NAME, BaseModel, place_of

    name, settings = options.name, load_settings(options.data_dir)
    if not BASE_NAME.fullmatch(name):
        raise CommandError(f"{name!r} cannot be the name of a base. Use letters, digits, '.', '_', '-' and '/' only.")
    source = _source(name, _given(name, options.source, options.from_))
    if options.later:
        _write(settings, name, place_of(source), {}, options.as_json)
        return
    found = _looked_up(BaseModel(name, source, None), place_of(source), options.as_json)
    if options.dry_run:
        _print_dry(found, options.as_json)
        return
    if not found.fits and not options.anyway:
        raise CommandError(
            f"{name} does not fit this machine and was not added. Add it all the same, for example to serve it from"
            " another machine (setting serve_remote), with --anyway."
        )
    _fetch(BaseModel(name, found.source, None), settings)
    _write(settings, name, place_of(found.source), found.to_json(), options.as_json)


def _given(name: str, source: str | None, option: str | None) -> str:
    from tunesmith.models.catalogue import catalogue

    if source is not None and option is not None:
        raise CommandError("Give the source once: as the second argument, or with --from.", Exit.USAGE)
    given = source or option
    if given is not None:
        return given
    entry = catalogue().get(name)
    if entry is None:
        raise CommandError(
            f"The catalogue has no {name!r}, so say where it comes from: tunesmith models add {name} --from OWNER/NAME"
            " (a repository on the Hugging Face hub), a directory, or a file.gguf. In the catalogue:"
            f" {', '.join(sorted(catalogue()))}.",
            Exit.USAGE,
        )
    return entry.hub


def _source(name: str, given: str) -> "HubRepository | GgufFile | LocalDirectory":
    """A hub id, or a path made whole; raises CommandError for a directory that is no base."""
    from tunesmith.errors import InvalidRequest
    from tunesmith.models.base_check import check_base
    from tunesmith.models.registry import HUB_ID, GgufFile, LocalDirectory, source_of

    path = Path(given).expanduser()
    hub = source_of(given)
    if HUB_ID.fullmatch(given.partition("@")[0]) and not path.exists():
        return hub
    whole = path.resolve() if ".." in path.parts else path.absolute()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise CommandError(f"There is no file {whole}. Check the path.")
        return GgufFile(whole)
    try:
        check_base(whole, name)
    except InvalidRequest as error:
        raise CommandError(f"{error.message} ({whole})") from error
    return LocalDirectory(whole)


def _looked_up(base: "BaseModel", place: str, as_json: bool) -> "Found":
    """Prints what is known of the base; the first line comes before the network is asked."""
    from tunesmith.cli.commands.models.look import look
    from tunesmith.cli.output.terminal import note
    from tunesmith.cli.output.waiting import Waiting

    note(f"Looking at {place} …")
    with Waiting(f"looking at {place}"):
        found = look(base)
    if not as_json:
        for line in found.lines():
            note(line)
    return found


def _fetch(base: "BaseModel", settings: "Settings") -> None:
    from tunesmith.cli.output.pull_progress import PullProgress
    from tunesmith.models.directory import pull

    try:
        with PullProgress(base.name) as progress:
            pull(base, settings, progress.started)
    except KeyboardInterrupt:
        from tunesmith.cli.output.terminal import note

        note(f"Interrupted; {base.name} was not added. The same command goes on where it stopped.")
        raise


def _print_dry(found: "Found", as_json: bool) -> None:
    from tunesmith.cli.output.terminal import print_json

    if as_json:
        print_json(found.to_json())


def _write(settings: "Settings", name: str, place: str, found: "JsonObject", as_json: bool) -> None:
    from tunesmith.cli.configure import again
    from tunesmith.cli.output.terminal import note, print_json, print_plain
    from tunesmith.cli.settings_file import set_entry
    from tunesmith.models.registry import HubRepository, source_of

    file = settings.paths.root / "tunesmith.toml"
    set_entry(file, "bases", name, place)
    if as_json:
        print_json({"model": name, "source": place, "file": str(file), **found})
        return
    print_plain(f"{name} is a base now ({place}; in {file})")
    if not found and isinstance(source_of(place), HubRepository):
        note(f"Next, download it: {again(f'models pull {name}')}")
    note(f"Look at it: {again(f'models check {name}')}. A running server must be restarted to know it.")
