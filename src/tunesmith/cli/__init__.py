"""The command line.

Each command imports what it needs when it runs, so that `--help` stays fast.
"""

import os
import sys
from typing import NoReturn

from tunesmith.cli.exits import CommandError, Exit
from tunesmith.errors import TunesmithError
from tunesmith.system.private import make_new_files_private
from tunesmith.system.streams import ReaderGone, end_start, guard_streams, show_start


def main() -> NoReturn:
    """Runs the command of `sys.argv` and ends the process with its exit code."""
    make_new_files_private()
    guard_streams()
    show_start()
    try:
        code = run(sys.argv[1:])
    finally:
        end_start()
    sys.exit(_flushed(code))


def run(arguments: list[str]) -> int:
    """Runs `tunesmith ARGUMENTS` and returns its exit code.

    Every error becomes one line on stderr; exits.py has the codes. With TUNESMITH_DEBUG set, errors are raised.
    """
    try:
        from tunesmith.cli.app import command  # takes long enough for a Ctrl-C

        code = command()(arguments, prog_name="tunesmith", standalone_mode=False)
        return code if isinstance(code, int) else Exit.OK
    except Exception as error:
        if os.environ.get("TUNESMITH_DEBUG"):
            raise
        return _report(error)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED


def _flushed(code: int) -> int:
    """Writes out what is buffered; the exit code."""
    try:
        sys.stdout.flush()
    except ReaderGone:
        return code or Exit.OK
    return code


def _report(error: Exception) -> int:
    """Prints the error on stderr; returns the exit code."""
    if isinstance(error, CommandError):
        return _say(error.message, error.exit_code)
    if isinstance(error, TunesmithError):
        return _say(str(error), _exit_code(error))
    if (usage := _usage_message(error)) is not None:
        return _say(usage, Exit.USAGE) if usage else Exit.USAGE
    if type(error).__name__ == "Abort":  # Ctrl-C or no in answer to a question
        return _say("stopped; nothing was changed.", Exit.FAILED)
    if isinstance(error, ReaderGone):  # `| head` has seen enough
        return Exit.OK
    if isinstance(error, OSError):
        from tunesmith.system.disk import failure

        return _say(failure(error), Exit.FAILED)
    return _say(
        f"{type(error).__name__}: {error}. This is a bug in Tunesmith, not in your input;"
        " run the command again with TUNESMITH_DEBUG=1 for the details that a bug report needs.",
        Exit.BUG,
    )


def _exit_code(error: TunesmithError) -> Exit:
    from tunesmith.client import ServerRefused, ServerUnreachable

    if isinstance(error, ServerUnreachable):
        return Exit.UNREACHABLE
    if isinstance(error, ServerRefused) and error.status_code in (401, 403):
        return Exit.NO_KEY
    return Exit.FAILED


def _usage_message(error: Exception) -> str | None:
    """What is wrong with the command line; None for errors of another kind.

    Typer keeps its copy of click private, so the error is known by its attributes.
    """
    format_message = getattr(error, "format_message", None)
    if format_message is None or not hasattr(error, "exit_code"):
        return None
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "tunesmith"
    sentence = _number_fault(error) or str(format_message()).strip()
    if not sentence:
        return ""  # a group without a command: its help was printed
    return f"{sentence}{'' if sentence[-1] in '.?!' else '.'} See: {command} --help"


def _number_fault(error: Exception) -> str | None:
    """What is wrong with a number, in our words instead of pydantic's, whose error Typer turns into its own."""
    option, details = getattr(error, "param", None), getattr(error.__cause__, "errors", None)
    if option is None or details is None:
        return None
    fault = details()[0]
    limits = fault.get("ctx", {})
    match fault["type"]:
        case "int_parsing" | "int_from_float" | "int_parsing_size":
            wanted = "is not a whole number"
        case "float_parsing" | "finite_number":
            wanted = "is not a number"
        case "greater_than_equal":
            wanted = f"is less than {limits['ge']:g}, the least it may be"
        case "less_than_equal":
            wanted = f"is more than {limits['le']:g}, the most it may be"
        case _:
            return None
    return f"Invalid value for '{option.opts[-1] if option.opts else option.name}': {fault['input']!r} {wanted}."


def _say(message: str, code: Exit) -> Exit:
    from tunesmith.cli.output.terminal import complain

    complain(message)
    return code
