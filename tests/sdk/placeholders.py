"""A pytest plugin for OpenAI's own tests: real objects in place of the ids that they make up.

Those tests were written for a mock server, to which one id is as good as another: `file_id`, `completion_id`, a job
that is cancelled five times. The client's own hook for changing a request puts an object of the kind there, made by
`scripts/api_world.py` for each call that could use one up. Nothing else of a request is touched, and no
answer; of the client's types only what `openai_types.py` says.
"""

import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from api_samples import LABEL, ROWS
from api_world import World

from openai_types import accept_null_errors  # type: ignore[import-not-found]  # of the parent folder
from samples import in_turn  # type: ignore[import-not-found]
from tunesmith.settings import Settings
from tunesmith.store import open_store

Json = dict[str, Any]
SERVER = "TUNESMITH_TESTED"  # a variable of the environment: base URL, key and data directory, as JSON
REPORT = "TUNESMITH_REPORT"  # another: the file for the outcomes, test -> null or what was wrong
OUTCOMES: dict[str, str | None] = {}
WRAPPED = re.compile(r"::test_(raw|streaming)_response_")
OPERATIONS = Path(__file__).parents[2] / "scripts" / "openai_operations.json"


class Placeholders:
    def __init__(self, world: World) -> None:
        self._world = world
        operations = json.loads(OPERATIONS.read_text("utf-8"))
        self._patterns: dict[str, re.Pattern[str]] = {
            one["path"]: _pattern(one["path"]) for one in operations if "{" in one["path"]
        }
        self._bodies: dict[str, Callable[[Any, str], Any]] = {  # field of a body -> what stands there instead
            "training_file": lambda _, url: world.rows,
            "validation_file": lambda _, url: world.rows,
            "project_ids": lambda _, url: [world.project],
            "part_ids": lambda _, url: [world.part_of(f"/v1{url}")],
            "testing_criteria": lambda _, url: [LABEL],  # theirs has a role of no model, "role"
            "data_source": lambda value, url: _with_samples(value),  # which the criteria of our evals grade
            "md5": lambda _, url: hashlib.md5(ROWS).hexdigest(),
            "bytes": lambda _, url: len(ROWS),  # 0: an upload of nothing
        }

    def url(self, method: str, url: str) -> str:
        if url.startswith("/evals/") and url.endswith("/cancel"):  # a path that the description does not have
            return self.url(method, url.removesuffix("/cancel")) + "/cancel"
        for path, pattern in self._patterns.items():
            if pattern.fullmatch(f"/v1{url}"):
                if method.upper() == "GET" and "{fine_tuning_job_id}" in path:  # one that has events and checkpoints
                    return path.replace("{fine_tuning_job_id}", self._world.finished).removeprefix("/v1")
                return self._world.targets(method.upper(), path)[-1].removeprefix("/v1")
        return url

    def body(self, body: object, url: str) -> object:
        if not isinstance(body, dict):
            return body
        return {name: self._bodies[name](value, url) if name in self._bodies else value for name, value in body.items()}


def _with_samples(source: Json) -> Json:
    rows = [{"sample": {"output_text": "a"}, **row} for row in source["source"]["content"]]
    return {**source, "source": {**source["source"], "content": rows}}


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{[^}]+\}", "[^/]+", path))


@pytest.fixture(scope="session", autouse=True)
def placeholders() -> Iterator[None]:
    given = json.loads(os.environ[SERVER])
    settings = Settings(data_dir=Path(given["data_dir"]))
    store, patch = open_store(settings), pytest.MonkeyPatch()
    accept_null_errors()
    headers = {"authorization": f"Bearer {given['key']}"}
    with httpx.Client(base_url=given["base_url"].removesuffix("/v1"), headers=headers, timeout=60) as client:
        made = Placeholders(World(client, store, settings))
        for name in ("api_key", "admin_api_key"):  # which those tests spell out
            patch.setattr(sys.modules["tests.conftest"], name, given["key"])
        patch.setattr(openai.OpenAI, "_prepare_options", lambda _, options: _replaced(made, options))
        patch.setattr(openai.AsyncOpenAI, "_prepare_options", _awaited(made))
        yield
    patch.undo()
    store.close()


@pytest.hookimpl(trylast=True)  # once `-k` has left the loosely validated ones out: with those no request has three
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The three clients (synchronous, asynchronous, aiohttp) send the same request: one of them in turn.

    Likewise of an answer that is given raw and one that is streamed.
    """
    groups: dict[str, list[pytest.Item]] = {}
    for item in items:
        groups.setdefault(item.nodeid.partition("[")[0].replace("::TestAsync", "::Test"), []).append(item)
    three = _one_wrapper({name: group for name, group in groups.items() if len(group) == 3})
    sent = in_turn([item for group in three for item in group], 3)
    items[:] = [item for group in groups.values() if len(group) != 3 for item in group] + sent


def _one_wrapper(groups: dict[str, list[pytest.Item]]) -> list[list[pytest.Item]]:
    pairs: dict[str, list[str]] = {}
    for name in groups:
        if WRAPPED.search(name):
            pairs.setdefault(WRAPPED.sub("::test_", name), []).append(name)
    both = [name for pair in pairs.values() if len(pair) == 2 for name in pair]
    left = {*both} - {*in_turn(both, 2)}
    return [group for name, group in groups.items() if name not in left]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    fault = None if report.passed else f"{report.when} {report.outcome}: {report.longreprtext[-1000:]}"
    OUTCOMES[report.nodeid] = OUTCOMES.get(report.nodeid) or fault


def pytest_sessionfinish() -> None:
    Path(os.environ[REPORT]).write_text(json.dumps(OUTCOMES), "utf-8")


def _replaced(made: Placeholders, options: Any) -> Any:
    options.url = made.url(options.method, options.url)
    options.json_data = made.body(options.json_data, options.url)
    return options


def _awaited(made: Placeholders) -> Callable[..., Any]:
    async def prepare(_: object, options: Any) -> Any:
        return _replaced(made, options)

    return prepare
