"""The child process that checks files, and looks at their rows for pages.

Started as `python -P -m tunesmith.check.isolated.child`. One JSON task a line comes in; one JSON answer a line
goes out. It ends when its input does.
"""

import os
import resource
import sys
from contextlib import suppress
from pathlib import Path
from traceback import format_exc

import orjson

from tunesmith.check.file_check import CheckOptions, report_on, scan_of
from tunesmith.check.isolated.look import LOOK, Look, answer_to, look_from_json
from tunesmith.check.isolated.task import FAULT, GONE, NO_MEMORY, CheckTask, task_from_json
from tunesmith.check.kept_scans import KeptScans
from tunesmith.check.report.openai_wording import status_details
from tunesmith.check.scan.chunk import scan
from tunesmith.jsonvalue import JsonObject
from tunesmith.system.cpu import cpu_count

WARMING = b'{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}\n'  # loads token tables


def main() -> None:
    """Serves tasks until the input ends.

    What code prints goes to stderr, as stdout is for answers.
    """
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _be_the_first_to_go()
    scan(WARMING, 1, CheckOptions().scan)
    for line in sys.stdin.buffer:
        value = orjson.loads(line)
        task = look_from_json(value) if LOOK in value else task_from_json(value)
        _limit(task.seconds, task.memory)
        answers.write(orjson.dumps(_answer(task)) + b"\n")
        answers.flush()


def _answer(task: CheckTask | Look) -> JsonObject:
    try:
        return answer_to(task) if isinstance(task, Look) else _verdict(task)
    except FileNotFoundError:
        return {GONE: True}
    except MemoryError:
        return {NO_MEMORY: True}
    except Exception:
        return {FAULT: format_exc()}


def _verdict(task: CheckTask) -> JsonObject:
    options = CheckOptions(analysers=task.analysers)
    scan = scan_of(task.path, options, KeptScans(task.kept).of(task.sha256))
    report = report_on(task.path, scan, options)
    return {"details": status_details(report), "report": report.to_json()}


def _limit(seconds: float, memory: int) -> None:
    """Sets the limits of this process, and so of those that it starts.

    The parent kills on time; processor seconds end a child whose parent is gone. Mapped files are no memory here.
    """
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu = int(used.ru_utime + used.ru_stime + seconds * cpu_count()) + 10
    for kind, most in ((resource.RLIMIT_CPU, cpu), (resource.RLIMIT_DATA, memory)):
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _be_the_first_to_go() -> None:
    """Where the machine runs out of memory, this process goes before the server does (Linux)."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


if __name__ == "__main__":
    with suppress(KeyboardInterrupt, BrokenPipeError):  # the parent is gone or going: it says why
        main()
