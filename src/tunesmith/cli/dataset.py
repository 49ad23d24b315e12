"""A dataset on this machine, checked without a server."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.cli.exits import CommandError, Exit

if TYPE_CHECKING:
    from tunesmith.check.report.file_report import Report
    from tunesmith.cli.bases import LocalBase
    from tunesmith.settings import Settings


@dataclass(frozen=True, slots=True)
class DatasetCheck:
    """What to check a file for; `base` and `method` as the user named them."""

    file: Path
    base: str | None = None
    method: str | None = None
    encoding: str | None = None  # OpenAI's; None: the one of its current models
    near_duplicates: bool = False
    min_examples: int | None = None  # None: as many as a training file needs


def check_dataset(request: DatasetCheck, settings: "Settings") -> "tuple[LocalBase, Report]":
    """Checks the file; returns the base that counted the tokens, and the report.

    A bar shows how much of a large file has been read.
    Raises CommandError for a file or method that does not exist.
    """
    from tunesmith.check.file_check import CheckOptions, check_file
    from tunesmith.check.rules.file_rules import MIN_EXAMPLES
    from tunesmith.check.scan.analysers import ANALYSERS, DEFAULT_ANALYSERS
    from tunesmith.cli.bases import local_base
    from tunesmith.cli.output.reading_bar import ReadingBar
    from tunesmith.tokens import DEFAULT_ENCODING

    require_file(request.file)
    require_method(request.method)
    base = local_base(request.base, settings)
    with ReadingBar(request.file.name) as progress:
        options = CheckOptions(
            renderer=base.renderer,
            max_tokens=base.max_tokens,
            method=request.method,
            encoding=request.encoding or DEFAULT_ENCODING,
            analysers=ANALYSERS if request.near_duplicates else DEFAULT_ANALYSERS,
            min_examples=MIN_EXAMPLES if request.min_examples is None else request.min_examples,
        )
        report = check_file(request.file, options, progress=progress)
    return base, report


def require_file(file: Path) -> Path:
    """Returns `file` if it is a regular file; raises CommandError otherwise."""
    if not file.exists():
        raise CommandError(f"There is no file {file}. Check the path (you are in {Path.cwd()}).", Exit.USAGE)
    if file.is_dir():
        raise CommandError(f"{file} is a directory; name the .jsonl file in it.", Exit.USAGE)
    if not file.is_file():  # the rows are read more than once
        raise CommandError(f"{file} is a pipe or a device; write the rows to a file first.", Exit.USAGE)
    return file


def require_target(file: Path | None) -> None:
    """Raises CommandError, before any work is done, where no file can be written to."""
    if file is None:
        return
    if file.is_dir():
        raise CommandError(f"{file} is a directory; name the file to write in it.", Exit.USAGE)
    if not file.absolute().parent.is_dir():
        raise CommandError(
            f"There is no directory {file.absolute().parent} to write {file.name} into. Make it first, or give another"
            " path.",
            Exit.USAGE,
        )


def require_method(method: str | None) -> None:
    """Raises CommandError for a training method that does not exist."""
    from tunesmith.check.file_check import METHOD_KINDS

    if method is not None and method not in METHOD_KINDS:
        known = ", ".join(METHOD_KINDS)
        raise CommandError(f"{method!r} is not a training method; use one of {known}.", Exit.USAGE)
