"""The child process that writes an export.

Started as `python -P -m tunesmith.api.exports.child`. It goes behind everything else of the machine, and ends when the
server that started it does.
"""

import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from traceback import format_exc
from typing import BinaryIO

import orjson

from tunesmith.api.exports.request import DONE, FAULT, NEEDED, REFUSED, TOLD, request_from_json
from tunesmith.errors import TunesmithError
from tunesmith.jsonvalue import JsonObject
from tunesmith.system.private import make_new_files_private

NICE = 15


def main() -> None:
    """Writes what the first line orders; what code prints goes to stderr."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    os.nice(NICE)
    make_new_files_private()
    with suppress(OSError):  # the first to go where memory runs out (Linux)
        Path("/proc/self/oom_score_adj").write_text("1000")
    value = orjson.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_the_server, daemon=True).start()
    try:
        _write(value, answers)
    except TunesmithError as error:
        _tell(answers, {REFUSED: error.message})
    except Exception:
        _tell(answers, {FAULT: format_exc()})


def _write(value: JsonObject, answers: BinaryIO) -> None:
    from tunesmith.api.http.disk_room import demand_disk
    from tunesmith.export.tuned_model import open_tuned

    request, target, settings = request_from_json(value)
    model = open_tuned(request.model, request.base_model, request.directory, settings)
    from tunesmith.export.formats import export, export_bytes  # with torch, once the model is known to be whole

    needed = export_bytes(model, request.kind, request.width)
    _tell(answers, {NEEDED: needed})
    demand_disk(settings, needed)
    export(
        model,
        request.kind,
        target,
        lambda words: _tell(answers, {TOLD: words}),
        width=request.width,
        system_message=request.system_message,
    )
    _tell(answers, {DONE: True})


def _tell(answers: BinaryIO, words: JsonObject) -> None:
    answers.write(orjson.dumps(words) + b"\n")
    answers.flush()


def _end_with_the_server() -> None:
    """What is half written has a name of its own, and is removed before the next export."""
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt, BrokenPipeError):
        main()
