"""Python graders: the code of a user, asked in the jail.

What OpenAI gives such code, ours has too: `sample` with `output_text`, `output_json` (None where the answer is no
JSON), `output_tools` and `choices`; `item`, the row; two minutes, 2 GB, no network.
"""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import orjson
from anyio import CapacityLimiter, to_thread

from tunesmith.errors import InvalidRequest, ServerFault
from tunesmith.graders.jail.frames import Answer
from tunesmith.graders.jail.jail import Jail, JailLimits, open_jail
from tunesmith.graders.jail.places import Ticket
from tunesmith.graders.jail.process import CallDied, CallTimedOut, JailFault
from tunesmith.graders.templates import NoValue, Variables, sample_json
from tunesmith.jsonvalue import JsonObject
from tunesmith.settings import Settings

KNOWN_SOURCES = 1000  # whose check is remembered


@dataclass(frozen=True, slots=True)
class PythonGrader:
    """Lets the user's function `grade(sample, item)` return the score."""

    name: str
    source: str
    param: str  # where it stands in the request

    type = "python"


class PythonFault(ServerFault):
    """A run of a python grader without a score.

    `flag` is its name among the errors of a grader's result, `kind` says which fault of the server it was.
    """

    def __init__(self, message: str, flag: str, kind: str | None = None) -> None:
        super().__init__(message)
        self.flag = flag
        self.kind = kind


class GradePython(Protocol):
    """Scores a sample by a python grader.

    Raises PythonFault where it returns no score.
    """

    async def __call__(self, grader: PythonGrader, variables: Variables, /) -> float:
        """The score."""
        ...


def jail_limits(settings: Settings) -> JailLimits:
    """What the settings give a python grader."""
    return JailLimits(settings.python_grader_seconds, settings.python_grader_memory_mib)


async def without_jail(grader: PythonGrader, variables: Variables, /) -> float:
    """For runs that have no python graders."""
    raise PythonFault("Python graders are not run here.", "python_grader_server_error", "no_jail")


@dataclass(frozen=True, slots=True)
class InJail:
    """Runs python graders in the jail, in the name of an owner.

    Each owner's calls wait in a line of their own.
    """

    limits: JailLimits
    owner: str

    async def __call__(self, grader: PythonGrader, variables: Variables, /) -> float:
        """The score. A task that is cancelled ends the call."""
        answer = await self._asked(request(grader.source, variables))
        if answer.kind == "score":
            return answer.score
        if answer.kind == "wrong source":
            raise wrong_source(answer.text, grader.param)
        raise PythonFault(answer.text, "python_grader_runtime_error")

    async def _asked(self, data: bytes) -> Answer:
        jail = open_jail(self.limits)
        try:
            return await _in_thread(lambda ticket: jail.ask(data, self.owner, ticket))
        except CallTimedOut:
            seconds = f"{self.limits.seconds:g} seconds"
            raise PythonFault(f"The grader took more than {seconds}.", "python_grader_runtime_error") from None
        except CallDied as error:
            raise PythonFault(f"The grader has no score: {error}.", "python_grader_runtime_error") from None
        except JailFault as error:
            message = f"The grader was not run: {error.message}."
            raise PythonFault(message, "python_grader_server_error", "jail") from error


def request(source: str, variables: Variables) -> bytes:
    """What the jail is sent for one sample."""
    try:
        output_json = sample_json(variables.sample)
    except NoValue:
        output_json = None
    sample: JsonObject = {
        "output_text": variables.sample,
        "output_json": output_json,
        "output_tools": list(variables.tool_calls),
        "choices": variables.choices(),
    }
    asked: JsonObject = {"source": source, "sample": sample, "item": variables.item}
    try:
        return orjson.dumps(asked)
    except TypeError:  # whole numbers beyond 64 bits, half a surrogate pair, deep nesting
        return _written_slowly(asked)


def _written_slowly(asked: JsonObject) -> bytes:
    try:
        return json.dumps(asked).encode()
    except RecursionError as error:
        raise NoValue("The item or the answer is nested too deeply.", "invalid_variable_error") from error


async def check_python(grader: PythonGrader, limits: JailLimits, owner: str) -> None:
    """Raises InvalidRequest for a source without `grade`, or a kernel without jail.

    Reads the source in the jail, and runs nothing of it.
    """
    jail = open_jail(limits)
    if lacking := await to_thread.run_sync(jail.missing, limiter=CapacityLimiter(1)):
        message = f"Python graders are not run here: {lacking}."
        raise InvalidRequest(message, param=grader.param.removesuffix("source") + "type")
    digest = hashlib.sha256(grader.source.encode("utf-8", "surrogatepass")).digest()
    if digest not in _right_sources:
        await _check(grader, jail, owner)
        _right_sources[digest] = None
        while len(_right_sources) > KNOWN_SOURCES:
            _right_sources.popitem(last=False)


_right_sources: OrderedDict[bytes, None] = OrderedDict()


async def _check(grader: PythonGrader, jail: Jail, owner: str) -> None:
    try:
        answer = await _in_thread(lambda ticket: jail.read(grader.source, owner, ticket))
    except (CallTimedOut, CallDied) as error:
        raise wrong_source(f"It cannot be read: {error}.", grader.param) from None
    if answer.kind != "score":
        raise wrong_source(answer.text, grader.param)


async def _in_thread(ask: Callable[[Ticket], Answer]) -> Answer:
    """Waits in a thread that takes none of those that answer other requests; a task that is cancelled ends the call."""
    ticket = Ticket()

    def run() -> Answer:
        try:
            return ask(ticket)
        finally:
            ticket.close()

    try:
        return await to_thread.run_sync(run, abandon_on_cancel=True, limiter=CapacityLimiter(1))
    finally:
        ticket.leave()


def wrong_source(reason: str, param: str) -> InvalidRequest:
    """The 400 of a source that is no grader."""
    return InvalidRequest(f"The source is no grader. {reason} - '{param}'", param=param)
