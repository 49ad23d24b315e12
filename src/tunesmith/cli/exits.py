"""The exit codes, on which scripts may rely; docs/cli.md has this table."""

import sys
from enum import IntEnum

from tunesmith.errors import TunesmithError


class Exit(IntEnum):
    """How a command ended."""

    OK = 0  # done
    FAILED = 1  # the data is invalid, or what was asked for was refused
    USAGE = 2  # a wrong option or argument
    UNREACHABLE = 3  # no server answers
    JOB_FAILED = 4  # the job failed or was cancelled
    NO_KEY = 5  # no API key, or the server refuses it
    BUG = 70  # a bug in Tunesmith
    INTERRUPTED = 130  # Ctrl-C; a job goes on without us


def require_terminal(name: str, yes: bool) -> None:
    """Raises CommandError where nobody can be asked, and `yes` was not said."""
    if not yes and not sys.stdin.isatty():
        raise CommandError(
            f"Deleting {name} cannot be undone, and there is no terminal to ask for confirmation. Add --yes."
        )


class CommandError(TunesmithError):
    """Ends a command with a message and an exit code."""

    def __init__(self, message: str, exit_code: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code
