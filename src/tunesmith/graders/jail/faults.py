"""What is told of an exception of a grader.

Its own lines, and no path of this machine.
"""

import sys
import traceback

from tunesmith.graders.jail.source import FILE

MAX_LINES = 20  # of a traceback
MAX_MESSAGE = 2000  # characters
MAX_LINE = 200


def told(error: BaseException) -> str:
    """The message, and the lines of the grader that it came through, innermost last."""
    try:
        if isinstance(error, MemoryError):
            return "MemoryError: the grader took more memory than it may."
        frames = [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__)]
        own = [(frame, line) for frame, line in frames if frame.f_code.co_filename == FILE]
        places = [f"line {line}, in {frame.f_code.co_name}"[:MAX_LINE] for frame, line in own]
        return "\n".join([_message(error), *places[-MAX_LINES:]])
    except BaseException:  # of the grader's own making: an exception that cannot be shown
        return "The grader raised an exception that cannot be shown."


def _message(error: BaseException) -> str:
    try:
        text = str(error)
    except BaseException:
        text = "(its text cannot be shown)"
    for prefix in {sys.prefix, sys.base_prefix}:
        text = text.replace(prefix, "python")
    return f"{type(error).__name__}: {text}"[:MAX_MESSAGE] if text else type(error).__name__
