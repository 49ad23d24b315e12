"""`tunesmith fix`: a training file with every change that leaves no choice."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.exits import CommandError, Exit
from tunesmith.cli.options import AsJson, Dataset
from tunesmith.cli.signature import takes

if TYPE_CHECKING:
    from tunesmith.check.fix.columns import Columns
    from tunesmith.check.fix.fix_result import FixResult


@dataclass(frozen=True, slots=True)
class FixCommandOptions:
    """The options of `tunesmith fix`."""

    file: Dataset
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The fixed file; FILE.fixed.jsonl unless named.", show_default=False),
    ] = None
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")] = False
    prompt_field: Annotated[
        list[str] | None,
        typer.Option(help="The key or column of the prompt; repeat it to join several.", show_default=False),
    ] = None
    completion_field: Annotated[
        str | None, typer.Option(help="The key or column of the answer to learn.", show_default=False)
    ] = None
    system_field: Annotated[
        str | None, typer.Option(help="The key or column of the system message.", show_default=False)
    ] = None
    encoding: Annotated[
        str | None, typer.Option(help="The file's encoding if it is not Unicode, such as cp1252.", show_default=False)
    ] = None
    findings: Annotated[int, typer.Option(min=1, help="How many findings to print; all are counted.")] = 10
    as_json: AsJson = False


@takes(FixCommandOptions)
def fix(options: FixCommandOptions) -> None:
    """Write a copy that is ready to train.

    Other tools' rows, JSON arrays, CSV and small faults become plain rows; FILE is left as it is.

    Rows that cannot be fixed go to OUTPUT.rejected. The exit code is 1 if no row is left,
    or if the rows have no answers to learn.
    """
    from tunesmith.check.fix.fixed_file import FixOptions, fix_file
    from tunesmith.cli.dataset import require_file, require_target
    from tunesmith.cli.output.fix_summary import print_fix
    from tunesmith.cli.output.terminal import print_json

    source = require_file(options.file)
    require_target(options.output)
    target = options.output or source.with_name(f"{source.stem}.fixed.jsonl")
    how = FixOptions(
        overwrite=options.overwrite,
        copy_sound=options.output is not None,
        columns=_columns(options),
        encoding=options.encoding,
    )
    result = fix_file(source, target, how)
    if options.as_json:
        print_json(result.to_json())
    else:
        print_fix(result, source, target, options.findings)
    _warn_of_few(result)
    is_trainable = result.rows_out and result.kind != "reinforcement"  # their rows end with the user
    raise typer.Exit(Exit.OK if is_trainable else Exit.FAILED)


def _warn_of_few(result: "FixResult") -> None:
    from tunesmith.check.rules.file_rules import MIN_EXAMPLES
    from tunesmith.cli.output.terminal import plural, warn

    rows = result.rows_out
    if 0 < rows < MIN_EXAMPLES:
        more = MIN_EXAMPLES - rows
        warn(f"a job trains on at least {MIN_EXAMPLES} rows, and here is {plural(rows, 'row')}: add {more} or more.")


def _columns(options: FixCommandOptions) -> "Columns | None":
    from tunesmith.check.fix.columns import Columns

    if options.completion_field is not None:
        return Columns(options.completion_field, tuple(options.prompt_field or ()), options.system_field)
    if options.prompt_field or options.system_field:
        raise CommandError("Name the answer too: --completion-field NAME.")
    return None
