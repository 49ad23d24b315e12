"""`tunesmith fix`: a copy of a training file with all safe fixes applied."""

from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cli.options import AsJson, Dataset


def fix(
    file: Dataset,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The fixed file; FILE.fixed.jsonl unless named.", show_default=False),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a copy with all safe fixes applied.

    Rows that cannot be fixed go to OUTPUT.rejected.
    """
    from tunesmith.check.fix.fixed_file import fix_file
    from tunesmith.cli.dataset import require_file
    from tunesmith.cli.output.fix_summary import print_fix
    from tunesmith.cli.output.terminal import print_json

    target = output or file.with_name(f"{file.stem}.fixed.jsonl")
    result = fix_file(require_file(file), target, overwrite=overwrite)
    if as_json:
        print_json(result.to_json())
    else:
        print_fix(result, target)
