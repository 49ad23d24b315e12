"""The audit log: who changed what, and who was refused.

One line of JSON for each change of a key, project or permission, and for each refusal.
Lines go to the logger `tunesmith.audit`. A server shows all of them in its log; changes are also kept in `audit.log` of
the data directory, where commands write theirs. Refusals are not: anybody can cause them, and a file would fill the
disk. Never a key itself: its id and its last four characters.
"""

import getpass
import json
import logging
import sys
import time
from collections import deque
from contextlib import suppress
from pathlib import Path

from tunesmith.jsonvalue import JsonValue

log = logging.getLogger("tunesmith.audit")
log.setLevel(logging.INFO)
FILE = "audit.log"
MOST_REFUSALS = 20  # that are remembered: the newest of this process
_refusals: deque[dict[str, JsonValue]] = deque(maxlen=MOST_REFUSALS)


def note_change(deed: str, what: str, *, who: str, where: str, **details: JsonValue) -> None:
    """Writes that `who` did `deed` (`key.created`) to the object `what`."""
    log.info("%s", _line(deed, what, who, where, details))


def note_refusal(deed: str, what: str, *, who: str, where: str, **details: JsonValue) -> None:
    """Writes that `who` was refused something."""
    line = _line(deed, what, who, where, details)
    _refusals.append(json.loads(line))
    log.warning("%s", line)


def recent_refusals() -> list[dict[str, JsonValue]]:
    """What this process refused of late, newest first."""
    return list(_refusals)[::-1]


def show_audit_on_stderr() -> None:
    """Has the lines written to standard error, as a server's log is."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s [audit] %(message)s", "%Y-%m-%d %H:%M:%S"))
    _use(handler, "stderr")


def keep_audit_in(data_dir: Path) -> None:
    """Has changes appended to `audit.log` of the data directory."""
    handler = _File(data_dir / FILE, encoding="utf-8", delay=True)
    handler.addFilter(lambda record: record.levelno == logging.INFO)
    _use(handler, "file")


def this_user() -> str:
    """Who runs this process, as audit lines of commands say it."""
    try:
        return f"user {getpass.getuser()}"
    except (KeyError, OSError):  # a container without a user database
        return "an unnamed user"


class _File(logging.FileHandler):
    """Says in one line what `logging` shows as a traceback; what was not written is tried again with the next line."""

    def handleError(self, record: logging.LogRecord) -> None:
        """A full disk does not undo the change that was made."""
        error = sys.exc_info()[1]
        with suppress(OSError):
            sys.stderr.write(f"warning: {self.baseFilename} cannot be written: {error}\n")


def _use(handler: logging.Handler, name: str) -> None:
    """In place of an earlier one of the same name."""
    handler.set_name(name)
    for earlier in [one for one in log.handlers if one.name == name]:
        log.removeHandler(earlier)
        earlier.close()
    log.addHandler(handler)


def _line(deed: str, what: str, who: str, where: str, details: dict[str, JsonValue]) -> str:
    """ASCII, so that no name in it moves a cursor or begins a line."""
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return json.dumps({"when": when, "deed": deed, "what": what, "who": who, "from": where, **details})
