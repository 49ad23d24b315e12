"""Python graders over HTTP: scores and faults in OpenAI's shape, sources that are refused, and clients that leave."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from tests.api.conftest import Refused
from tests.processes import children, lives
from tests.servers import serving

from tunesmith.api.app import create_app
from tunesmith.graders.jail.jail import JailLimits, open_jail
from tunesmith.serve.pool import Pool
from tunesmith.settings import Settings
from tunesmith.store import Store

Json = dict[str, Any]
RUN, VALIDATE = "/v1/fine_tuning/alpha/graders/run", "/v1/fine_tuning/alpha/graders/validate"
RUNTIME, DETAILS = "python_grader_runtime_error", "python_grader_runtime_error_details"
LIMITS = JailLimits(seconds=3, memory_mib=512)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    if lacking := open_jail(LIMITS).missing():
        pytest.skip(lacking)
    return settings.model_copy(
        update={"python_grader_seconds": LIMITS.seconds, "python_grader_memory_mib": LIMITS.memory_mib}
    )


@pytest.fixture
def app(settings: Settings, store: Store, pool: Pool) -> FastAPI:
    return create_app(settings, store, pool)


def python(source: str, **fields: Any) -> Json:
    return {"type": "python", "name": "code", "source": source, **fields}


def run(client: TestClient, grader: Json, sample: str = "Rome", **item: Any) -> Json:
    answer = client.post(RUN, json={"grader": grader, "model_sample": sample, "item": item})
    assert answer.status_code == 200, answer.text
    value: Json = answer.json()
    return value


def test_a_score_has_openais_shape(client: TestClient, valid: Callable[..., None]) -> None:
    source = (
        "def grade(sample: dict, item: dict) -> float:\n    return 0.5 * (sample['output_text'] == item['label'])\n"
    )
    answer = run(client, python(source, image_tag="2025-05-08"), label="Rome")
    valid("RunGraderResponse", answer)
    assert (answer["reward"], answer["metadata"]["type"], answer["sub_rewards"]) == (0.5, "python", {})
    assert not any(answer["metadata"]["errors"].values())


@pytest.mark.parametrize(
    ("expression", "sample", "reward"),
    [
        ("sample['output_json']['n']", '{"n": 3}', 3.0),
        ("float(sample['output_json'] is None)", "{", 1.0),
        ("float(sample['choices'][0]['message']['content'] == 'Rome')", "Rome", 1.0),
        ("float(sample['output_tools'] == [])", "Rome", 1.0),
        ("float(item['n'] == 2 ** 70)", "Rome", 1.0),
        ("float(__import__('numpy').mean([0, 1]))", "Rome", 0.5),
    ],
    ids=["json", "no json", "choices", "tools", "large numbers", "numpy"],
)
def test_code_sees_the_sample_and_the_item(client: TestClient, expression: str, sample: str, reward: float) -> None:
    grader = python(f"def grade(sample, item):\n    return {expression}")
    assert run(client, grader, sample, n=2**70)["reward"] == reward


def test_code_within_multi_counts_like_others(client: TestClient) -> None:
    check = {"type": "string_check", "name": "same", "input": "a", "reference": "a", "operation": "eq"}
    graders = {"code": python("def grade(sample, item): return 0.25"), "same": check}
    multi = {"type": "multi", "name": "both", "graders": graders, "calculate_output": "code + same"}
    answer = run(client, multi)
    assert (answer["reward"], answer["sub_rewards"]) == (1.25, {"code": 0.25, "same": 1.0})


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("return item['label']", "KeyError: 'label'\nline 2, in grade"),
        ("return 'much'", "TypeError: grade returned a value of type str; it must return a finite float"),
        ("import os; os._exit(3)", "The grader has no score: it ended with exit status 3 before it returned a score."),
        ("while True: pass", "The grader took more than 3 seconds."),
        ("return bytearray(1 << 30)", "MemoryError: the grader took more memory than it may."),
    ],
    ids=["exception", "lie", "exit", "time", "memory"],
)
def test_code_without_a_score_has_no_reward_and_says_why(
    client: TestClient, valid: Callable[..., None], body: str, told: str
) -> None:
    grader = python(f"def grade(sample, item):\n    {body}")
    answer = client.post(RUN, json={"grader": grader, "model_sample": "Rome"})
    valid("RunGraderResponse", answer.json())
    errors = answer.json()["metadata"]["errors"]
    assert (answer.json()["reward"], errors[RUNTIME], errors[DETAILS]) == (0.0, True, told)
    assert answer.headers["x-tunesmith-grader-fault"] == " ".join(told.split())


@pytest.mark.parametrize("route", [VALIDATE, RUN])
@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("def grade(sample, item)\n    return 1.0", "Line 1: expected ':': def grade(sample, item)"),
        ("x = 1\n\nreturn x", "Line 3: 'return' outside function"),
        ("def score(sample, item): return 1.0", "It has no function `grade`"),
        ("def outer():\n    def grade(sample, item): return 1.0", "It has no function `grade`"),
        ("\ndef grade(sample): return 1.0", "Line 2: `grade` must take two arguments"),
        ("def grade(a, b, c): return 1.0", "Line 1: `grade` must take two arguments"),
        ("def grade(a, b, *, c): return 1.0", "Line 1: `grade` must take two arguments"),
        ("async def grade(sample, item): return 1.0", "Line 1: `grade` is `async`"),
        ("class grade: pass", "Line 1: `grade` is a class"),
        ("x = " + "(" * 900 + ")" * 900, "Line 1: too many nested parentheses"),
        ("x = " + "-" * 200_000 + "1", "It cannot be read"),
        ("def grade(sample, item):\n\treturn 1\n        return 2", "Line 3: "),
        ("def grade(s, i): return '\0'", "Line 1: source code string cannot contain null bytes"),
    ],
    ids=lambda value: value[:24] if len(value) < 400 else f"{value[:6]}...",
)
def test_a_source_that_is_no_grader_is_refused_by_its_line(
    client: TestClient, refused: Refused, route: str, source: str, told: str
) -> None:
    body = {"grader": python(source), **({"model_sample": "a"} if route == RUN else {})}
    error = refused(client.post(route, json=body), 400)
    assert error["param"] == "grader.source"
    assert error["message"].startswith(f"The source is no grader. {told}")


@pytest.mark.parametrize(
    "source",
    [
        "def grade(sample, item, strict=False): return 1.0",
        "def grade(*both): return 1.0",
        "grade = lambda sample, item: 1.0",
        "from math import pow as grade",
        "if True:\n    def grade(sample, item): return 1.0",
        "raise SystemExit  # before `grade` is bound\ndef grade(sample, item): return 1.0",
        "while True: pass\ndef grade(sample, item): return 1.0",
    ],
)
def test_a_source_is_read_and_not_run_when_it_is_validated(client: TestClient, source: str) -> None:
    begun = time.monotonic()
    grader = python(source, image_tag="2025-05-08", pass_threshold=0.5)
    assert client.post(VALIDATE, json={"grader": grader}).json() == {"grader": grader}
    assert time.monotonic() - begun < LIMITS.seconds


def test_a_wrong_source_within_multi_is_named_by_its_place(client: TestClient, refused: Refused) -> None:
    multi = {"type": "multi", "name": "m", "graders": {"a": python("x = 1")}, "calculate_output": "a"}
    assert refused(client.post(VALIDATE, json={"grader": multi}), 400)["param"] == "grader.graders.a.source"


def test_clients_that_leave_free_their_places(tmp_path: Path) -> None:
    if lacking := open_jail(LIMITS).missing():
        pytest.skip(lacking)
    endless, honest = "def grade(sample, item):\n    while True: pass", "def grade(sample, item): return 0.5"
    with serving(tmp_path, python_grader_seconds="60", python_grader_memory_mib="512") as server:
        client = httpx.Client(base_url=server.base_url, headers={"Authorization": f"Bearer {server.key}"}, timeout=20)
        with client:
            path = "fine_tuning/alpha/graders/run"
            for _ in range(open_jail(LIMITS).places + 1):
                with pytest.raises(httpx.ReadTimeout):
                    client.post(path, json={"grader": python(endless), "model_sample": "a"}, timeout=1.5)
            answer = client.post(path, json={"grader": python(honest), "model_sample": "a"})
        assert answer.json()["reward"] == 0.5
        (process,) = children(str(tmp_path))
        started = process.children(recursive=True)
    assert started
    _, alive = psutil.wait_procs([child for child in started if lives(child)], timeout=5)
    assert alive == []


def test_calls_at_once_all_have_their_own_score(client: TestClient) -> None:
    found: dict[int, float] = {}

    def ask(number: int) -> None:
        found[number] = run(client, python(f"def grade(sample, item): return {number} + item['n']"), n=number)["reward"]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: 2.0 * number for number in range(12)}
