"""`tunesmith models pull`."""

from typing import Annotated

import typer

from tunesmith.cli.options import AsJson, DataDir, named


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
