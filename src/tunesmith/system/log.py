"""The log of server and worker: one short line an event on stderr, in one format."""

import re
import sys
from collections.abc import MutableMapping

import structlog
from structlog.typing import WrappedLogger

from tunesmith.system.audit import show_audit_on_stderr

# C0, DEL and C1, line separators, and what turns the direction of text: a terminal obeys them, or a line ends early.
CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def configure_log(level: int) -> None:
    """Sends events of this level and above to stderr, as `logging` numbers levels.

    A terminal gets the time of day and colours; a file also has dates and request ids. The audit's lines go there too.
    """
    show_audit_on_stderr()
    send_events_to_stderr(level)


def send_events_to_stderr(level: int) -> None:
    """Sends events alone to stderr, without the audit's lines."""
    terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.dev.set_exc_info,
            structlog.processors.TimeStamper(fmt="%H:%M:%S" if terminal else "%Y-%m-%d %H:%M:%S", utc=False),
            _shorten_request,
            structlog.processors.format_exc_info,
            escape_controls,
            *([_drop_request_id] if terminal else []),
            structlog.dev.ConsoleRenderer(
                pad_event_to=0,
                pad_level=False,
                colors=terminal,
                exception_formatter=structlog.dev.plain_traceback,  # rich's folds lines, and shows values: keys, texts
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def escape_controls(
    _logger: WrappedLogger, _method: str, event: MutableMapping[str, object]
) -> MutableMapping[str, object]:
    """Shows control characters as `\\x1b`, so that no line is forged.

    Nor can anybody send commands to the terminal. A traceback keeps its lines, each indented, as no other line is.
    """
    for name, value in event.items():
        text = value if isinstance(value, str | int | float | bool | None) else repr(value)
        if isinstance(text, str):
            event[name] = _traceback(text) if name == "exception" else _escaped(text)
    return event


def _traceback(text: str) -> str:
    return "\n".join(f"    {_escaped(line)}" for line in text.split("\n"))


def _escaped(text: str) -> str:
    return CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def _shorten_request(
    _logger: WrappedLogger, _method: str, event: MutableMapping[str, object]
) -> MutableMapping[str, object]:
    """Shortens the line of a request to `GET /v1/models 200` and the milliseconds."""
    if event.get("event") == "request":
        event["event"] = f"{event.pop('method')} {event.pop('path')} {event.pop('status')}"
    return event


def _drop_request_id(
    _logger: WrappedLogger, _method: str, event: MutableMapping[str, object]
) -> MutableMapping[str, object]:
    """Drops what no person reads, but for errors, whose answers name it."""
    if event.get("level") == "info":
        event.pop("request_id", None)
    return event
