"""Answers of the playground that somebody corrected: rows of a growing data set.

They are one file of the project, `playground-corrections.jsonl`. A row is added by writing another file with it and
deleting the older one. Two that are added at the same moment leave two files, whose rows are read as one set: none is
lost, and the next change makes them one file again.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import cast

from starlette.concurrency import run_in_threadpool

from tunesmith.errors import InvalidRequest
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.web.access.api_call import Api

FILENAME = "playground-corrections.jsonl"
PURPOSE = "user_data"  # until it is made a training file: nobody checks ten rows in three
MOST_FILES = 1000  # that are looked through
MOST_BYTES = 4_000_000  # of all rows; of files that somebody uploaded under this name, no more is read
MOST_CHARS = 64_000  # of a row
ROLES = ("system", "developer", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True)
class Correction:
    """One row; `line` is it in the file."""

    line: str

    @property
    def id(self) -> str:
        """The same row has the same one."""
        return sha256(self.line.encode("utf-8", "surrogatepass")).hexdigest()[:16]

    @property
    def question(self) -> str:
        """What the user said last."""
        return next((_text(one) for one in reversed(self._messages) if one.get("role") == "user"), "")

    @property
    def answer(self) -> str:
        """What the model is to say."""
        return _text(self._messages[-1]) if self._messages else ""

    @property
    def _messages(self) -> list[JsonObject]:
        return cast(list[JsonObject], json.loads(self.line)["messages"])


async def read_corrections(api: Api) -> list[Correction]:
    """All rows, oldest first."""
    return (await _read(api))[0]


async def add_correction(api: Api, row: JsonValue) -> list[Correction]:
    """Adds a row; all of them. Raises InvalidRequest for what is no row, and Refused."""
    line = _line(row)
    known, files = await _read(api)
    return await _write(api, _distinct([*known, Correction(line)]), files)


async def remove_correction(api: Api, correction: str) -> list[Correction]:
    """Removes the row of that id, if it is there; the others. Raises Refused."""
    known, files = await _read(api)
    return await _write(api, [one for one in known if one.id != correction], files)


def content_of(corrections: Iterable[Correction]) -> bytes:
    """The rows as a file of training examples."""
    return "".join(f"{one.line}\n" for one in corrections).encode()


async def _read(api: Api) -> tuple[list[Correction], list[str]]:
    """The rows of all files of that name, oldest first, and the files' ids."""
    listed = await api.all("/v1/files", MOST_FILES, purpose=PURPOSE, order="desc")
    files: list[str] = []
    found: list[Correction] = []
    room = MOST_BYTES
    for one in reversed(listed):
        if one["filename"] != FILENAME or (size := cast(int, one["bytes"])) > room:
            continue
        room -= size
        files.append(str(one["id"]))
        reply = await api.call("GET", f"/v1/files/{one['id']}/content")
        if reply.status == 200:  # another request may have replaced it just now
            found += await run_in_threadpool(_rows, reply.body)
    return _distinct(found), files


def _rows(content: bytes) -> list[Correction]:
    return [Correction(line) for line in content.decode("utf-8", "replace").split("\n") if _is_row(line)]


async def _write(api: Api, corrections: list[Correction], older: list[str]) -> list[Correction]:
    """The new file is there before the older ones go."""
    content = content_of(corrections)
    if len(content) > MOST_BYTES:
        raise InvalidRequest(
            f"The corrected answers would take {len(content):,} bytes; {MOST_BYTES:,} are kept here. Make a training "
            f"file of them, then remove rows, or delete the file {FILENAME} to begin anew."
        )
    if content:
        await api.upload(FILENAME, content, PURPOSE)
    for file_id in older:
        reply = await api.call("DELETE", f"/v1/files/{file_id}")
        if reply.status != 404:  # another request may have replaced it just now
            reply.json()
    return corrections


def _line(row: JsonValue) -> str:
    """The row in one line. Raises InvalidRequest where it is not a conversation that ends with an answer."""
    messages = row.get("messages") if isinstance(row, dict) else None
    if not isinstance(row, dict) or not isinstance(messages, list) or not all(_is_message(one) for one in messages):
        raise InvalidRequest("A corrected answer is an object with `messages`, each with a role and a content.")
    last = cast(JsonObject, messages[-1]) if messages else {}
    if last.get("role") != "assistant" or not (_text(last).strip() or last.get("tool_calls")):
        raise InvalidRequest("The last message is what the model is to say: an assistant message that is not empty.")
    if not any(cast(JsonObject, one).get("role") == "user" for one in messages):
        raise InvalidRequest("A row needs a user message before the answer.")
    line = json.dumps({name: row[name] for name in ("messages", "tools") if row.get(name)}, ensure_ascii=False)
    if len(line) > MOST_CHARS:
        raise InvalidRequest(f"This row has {len(line):,} characters; at most {MOST_CHARS:,} are kept here.")
    if any("\ud800" <= letter <= "\udfff" for letter in line):
        raise InvalidRequest("A text of this row has half of a character (a lone surrogate). Type it again.")
    return line


def _is_message(value: JsonValue) -> bool:
    if not isinstance(value, dict) or value.get("role") not in ROLES:
        return False
    return isinstance(value.get("content"), str) or (value.get("content") is None and bool(value.get("tool_calls")))


def _is_row(line: str) -> bool:
    """Whether it is one of ours: anybody can upload a file of that name."""
    try:
        return len(line) <= MOST_CHARS and _line(json.loads(line)) != ""
    except (ValueError, InvalidRequest, RecursionError):
        return False


def _text(message: JsonObject) -> str:
    content = message.get("content")
    return content if isinstance(content, str) else ""


def _distinct(corrections: Iterable[Correction]) -> list[Correction]:
    return list({one.line: one for one in corrections}.values())
