"""The answers of an evaluation as they come: a killed one goes on where it was.

Each line is a JSON object. The first line names what was evaluated; a journal of anything else is begun again. What
follows the last whole line is what a kill or a power cut left, and is dropped.
"""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import orjson

from tunesmith.evals.answers import Answer
from tunesmith.jsonvalue import JsonObject

Entry = tuple[Answer, Answer] | str  # both sides' answers, or why there are none


class Journal:
    """The answers so far, by the part of the evaluation and the question's number."""

    def __init__(self, path: Path, key: str) -> None:
        """Reads what an earlier attempt wrote."""
        self.found: dict[tuple[str, int], Entry] = {}
        self._lock = threading.Lock()
        lines = list(_whole_lines(path))
        if not lines or lines[0][1] != {"key": key}:
            path.write_bytes(orjson.dumps({"key": key}) + b"\n")
            self._file = path.open("ab")
            return
        self.found = {(str(line["part"]), int(str(line["question"]))): _entry(line) for _, line in lines[1:]}
        os.truncate(path, lines[-1][0])
        self._file = path.open("ab")

    def add(self, part: str, question: int, entry: Entry) -> None:
        """Keeps an answer; from any thread."""
        line: JsonObject = {"part": part, "question": question}
        if isinstance(entry, str):
            line["left_out"] = entry
        else:
            line |= {"before": entry[0].to_json(), "after": entry[1].to_json()}
        with self._lock:
            self.found[part, question] = entry
            self._file.write(orjson.dumps(line) + b"\n")
            self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def _whole_lines(path: Path) -> Iterator[tuple[int, JsonObject]]:
    """The lines up to the first that is not whole, each with the place of its end."""
    end = 0
    for line in path.read_bytes().splitlines(keepends=True) if path.exists() else ():
        try:
            value: JsonObject = orjson.loads(line)
        except orjson.JSONDecodeError:
            return
        if not line.endswith(b"\n"):
            return
        end += len(line)
        yield end, value


def _entry(line: JsonObject) -> Entry:
    before, after = line.get("before"), line.get("after")
    if isinstance(before, dict) and isinstance(after, dict):
        return Answer.from_json(before), Answer.from_json(after)
    return str(line.get("left_out"))
