"""Options that several commands share, written once."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

DataDir: TypeAlias = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Where Tunesmith keeps everything (TUNESMITH_DATA_DIR).", show_default=False),
]
BaseUrl: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--base-url",
        envvar="TUNESMITH_BASE_URL",
        help="The server, e.g. http://127.0.0.1:8000/v1. Default: the one running on the data directory.",
        show_envvar=False,
        show_default=False,
    ),
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Dataset: TypeAlias = Annotated[
    Path,
    typer.Argument(help="Training data, one JSON object a line.", metavar="FILE", show_default=False),
]
JobId: TypeAlias = Annotated[
    str, typer.Argument(help="Job id (ftjob-…), or 'last' for the newest.", metavar="JOB", show_default=False)
]
