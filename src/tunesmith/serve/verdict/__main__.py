"""The process: `python -m tunesmith.serve.verdict spec.json`.

It prints lines on stdout as a trainer does: `log` for a sentence to the job's owner, at last `done` or `failed`. The
answers go to the spec's journal as they come, so that the next attempt asks only what is left.
"""

import json
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import FrameType

from tunesmith.check.rules.leaks import find_leaks
from tunesmith.errors import InvalidRequest, TunesmithError
from tunesmith.estimate.verdict_time import ROWS_SHARE, TIME_SHARE
from tunesmith.evals.answers import Answer, Pair
from tunesmith.evals.evaluation import Evaluation, evaluate
from tunesmith.evals.forgetting import GENERAL_TOKENS, Forgetting, forgetting, general_questions
from tunesmith.evals.questions import Question, in_random_order, read_questions
from tunesmith.evals.verdict.journal import Journal
from tunesmith.evals.verdict.spec import VerdictSpec
from tunesmith.evals.wording import counted
from tunesmith.jsonvalue import JsonObject
from tunesmith.serve.pool import Pool
from tunesmith.serve.verdict.asking import Side, answers, longest_answer
from tunesmith.serve.verdict.pace import AT_ONCE, Pace
from tunesmith.settings import Settings
from tunesmith.system.atomic_write import write_atomically
from tunesmith.system.log import configure_log
from tunesmith.system.memory import total_memory

LONGEST_ANSWER = 512  # tokens
END_SHARE = 0.02  # of the time, and …
END_SECONDS = 0.5  # … are kept for what follows the last answer: the probe's statistics, the file, the process's end
ROWS, GENERAL = "rows", "general"


def main(arguments: list[str]) -> int:
    """Evaluates the spec named by the only argument; returns the exit code."""
    if len(arguments) != 1:
        print("usage: python -m tunesmith.serve.verdict SPEC.json", file=sys.stderr)  # noqa: T201
        return 2
    configure_log(logging.INFO)  # to stderr: stdout is for the events
    signal.signal(signal.SIGTERM, _end)
    try:
        path = Path(arguments[0])
        run(VerdictSpec.read(path), say, time.monotonic() - max(0.0, time.time() - path.stat().st_mtime))
    except TunesmithError as error:
        _print("failed", code=error.code or "evaluation_error", message=error.message)
        return 1
    except Exception as error:
        traceback.print_exc()
        _print("failed", code="evaluation_error", message=f"{type(error).__name__}: {error}")
        return 1
    _print("done", steps=0, trained_tokens=0, path="")
    return 0


def run(spec: VerdictSpec, log: Callable[[str], None], started: float) -> Evaluation:
    """Has both sides answer; the evaluation is written to `result` and returned.

    `started`: when the evaluation began, by the monotonic clock: this process needs some seconds to begin itself.
    """
    questions = in_random_order(read_questions(spec.rows_file))
    chosen = questions[: spec.rows]
    log(f"Evaluating on {_counted(chosen, questions)}: {spec.before.name} and {spec.after.name} answer them")
    settings = Settings.model_validate({**spec.settings, "serve_memory_mib": total_memory() // 2**20})
    pool, journal = Pool(settings), Journal(spec.journal, spec.key())
    try:
        sides = (Side.open(pool, spec.before), Side.open(pool, spec.after))
        most = longest_answer(questions, sides[1].loaded.renderer, LONGEST_ANSWER)
        asking = Asking(sides, journal)
        asking.ask(ROWS, chosen, most, started + ROWS_SHARE * spec.seconds)
        found = _evaluation(spec, journal, chosen, questions)  # before the probe, which fills the time that is left
        found = replace(found, leaks=_leaks(spec), max_tokens=most)
        general = general_questions()
        asking.ask(GENERAL, general, GENERAL_TOKENS, started + (1 - END_SHARE) * spec.seconds - END_SECONDS)
    finally:
        journal.close()
        pool.close()
    found = replace(found, forgetting=_forgetting(journal, general))
    found = replace(found, notes=(*found.notes, *_late(spec, time.monotonic() - started)))
    text = json.dumps(found.to_json(), ensure_ascii=False, indent=1)
    write_atomically(spec.result, text.encode() + b"\n")
    return found


class Asking:
    """Asks both sides what the journal has no answer to, until the time is up."""

    def __init__(self, sides: tuple[Side, Side], journal: Journal) -> None:
        self._sides = sides
        self._journal = journal

    def ask(self, part: str, questions: Sequence[Question], max_tokens: int, until: float) -> None:
        """Asks in order, a few questions at a time.

        What is begun is finished: long answers must not be the ones that are missing.
        """
        slots, pace = threading.Semaphore(AT_ONCE), Pace(until)

        def one(number: int) -> None:
            begun = time.monotonic()
            try:
                self._journal.add(part, number, answers(self._sides, questions[number], max_tokens))
            finally:
                pace.took(time.monotonic() - begun)
                slots.release()

        with ThreadPoolExecutor(AT_ONCE) as threads:
            futures = []
            for number in range(len(questions)):
                if (part, number) in self._journal.found:
                    continue
                slots.acquire()
                if not pace.admits(number):
                    break
                futures.append(threads.submit(one, number))
        for future in futures:
            future.result()


def _evaluation(
    spec: VerdictSpec, journal: Journal, chosen: Sequence[Question], questions: Sequence[Question]
) -> Evaluation:
    pairs, left_out = _answered(journal, ROWS, chosen)
    if not pairs:
        reason = left_out[0][1] if left_out else "there was no time for one"
        raise InvalidRequest(f"No row could be asked: {reason}")
    found = evaluate(spec.before.name, spec.after.name, pairs, left_out, base=spec.before.digest)
    return replace(found, notes=(*found.notes, *_notes(spec, len(pairs), len(chosen), len(questions))))


def _notes(spec: VerdictSpec, asked: int, chosen: int, known: int) -> list[str]:
    rows = "rows held out of the training file" if spec.held_out else "rows of the validation file"
    notes = []
    if asked < chosen:
        notes.append(f"{asked:,} of {chosen:,} {rows}, drawn at random: more would have taken more of the job's time")
    elif chosen < known:
        notes.append(f"{chosen:,} of {known:,} {rows}, drawn at random")
    return notes


def _late(spec: VerdictSpec, seconds: float) -> list[str]:
    """What is said where the few rows that are asked in any case took more than the job's share."""
    percent = round(100 * spec.share(seconds), 1)
    if percent <= 100 * TIME_SHARE:
        return []
    return [f"the evaluation took {percent:g} % of the job's time, as a few rows are asked whatever that takes"]


def _answered(journal: Journal, part: str, questions: Sequence[Question]) -> tuple[list[Pair], list[tuple[int, str]]]:
    pairs, left_out = [], []
    for number, question in enumerate(questions):
        entry = journal.found.get((part, number))
        if isinstance(entry, str):
            left_out.append((question.line, entry))
        elif entry is not None:
            pairs.append(Pair(question, *entry))
    return sorted(pairs, key=lambda one: one.question.line), left_out


def _forgetting(journal: Journal, general: Sequence[Question]) -> Forgetting | None:
    pairs, _ = _answered(journal, GENERAL, general)
    sides: list[list[Answer]] = [[one.before for one in pairs], [one.after for one in pairs]]
    replies = [[one.reply for one in side] for side in sides]
    return forgetting([one.question for one in pairs], replies[0], replies[1])


def _leaks(spec: VerdictSpec) -> JsonObject | None:
    if spec.training_file is None or not spec.training_file.is_file():
        return None
    return find_leaks(spec.training_file, spec.rows_file).to_json()


def _counted(chosen: Sequence[Question], known: Sequence[Question]) -> str:
    rows = counted(len(known), "row")
    return rows if len(chosen) == len(known) else f"{len(chosen):,} of {rows}"


def say(message: str) -> None:
    """A sentence to the job's owner."""
    _print("log", level="info", message=message)


def _print(kind: str, **values: object) -> None:
    sys.stdout.write(json.dumps({"type": kind, **values}, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def _end(number: int, frame: FrameType | None) -> None:
    """Nothing is lost but what was under way: the journal has the rest."""
    os._exit(143)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
