"""A request is bounded whatever is in it: it costs little more than a harmless one."""

import json
import time
from collections.abc import Callable

import pytest
from starlette.testclient import TestClient

from tunesmith.errors import InvalidRequest
from tunesmith.graders.templates import Variables, checked_template, fill
from tunesmith.moderation.word_rules import WordModerator
from tunesmith.settings import Settings
from tunesmith.store import Store
from tunesmith.system.deadline import OutOfTime, time_limit
from tunesmith.wire.body import read
from tunesmith.wire.chat.bodies import Chat

JSON_ROUTES = ("/v1/chat/completions", "/v1/fine_tuning/jobs", "/v1/moderations", "/v1/fine_tuning/alpha/graders/run")


def seconds(work: Callable[[], object]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


@pytest.mark.parametrize("kind", ["multipart/x", "Multipart/Form-Data; boundary=a", "text/plain", "application/json"])
@pytest.mark.parametrize("path", JSON_ROUTES)
def test_body_limit_holds_whatever_the_content_type(client: TestClient, path: str, kind: str) -> None:
    answer = client.post(path, content=b"x" * (4 * 1024 * 1024 + 1), headers={"Content-Type": kind})
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "request_too_large"


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 50_001,
        b'{"":' * 50_001,
        b"[" + b"{}," * 50_000 + b"{}]",
        b"[" + b"0," * 300_001 + b"0]",
        b"[" + b'"",' * 100_000 + b'""]',
        b"{" + b'"a\\\\":0,' * 100_001 + b'"":0}',
        b'["\\\\\\"",' + b"{}," * 50_000 + b"{}]",
    ],
    ids=["nested lists", "nested objects", "objects", "numbers", "texts", "escaped names", "escapes first"],
)
def test_json_of_very_many_parts_is_refused_unread(client: TestClient, body: bytes) -> None:
    answer = client.post("/v1/moderations", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "request_too_large"


@pytest.mark.parametrize(
    "text", ["[{" * 100_000, '{"a": "\\", ' * 60_000, "\\[" * 60_000], ids=["brackets", "JSON", "paths"]
)
def test_marks_within_a_text_are_no_parts(client: TestClient, text: str) -> None:
    answer = client.post("/v1/moderations", json={"input": text})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("field", ["tools", "functions", "stop", "modalities"])
def test_wrong_items_cost_one_error(field: str) -> None:
    def refuse(count: int) -> None:
        with pytest.raises(InvalidRequest):
            read(Chat, {"model": "a", "messages": [], field: [[]] * count})

    refuse(1)
    assert seconds(lambda: refuse(300_000)) < 0.3  # 0.5 s with an error for each


def test_very_many_biases_are_refused_by_their_number() -> None:
    with pytest.raises(InvalidRequest, match="at most 10000"):
        read(Chat, {"model": "a", "messages": [], "logit_bias": {str(n): 1 for n in range(10_001)}})


@pytest.mark.parametrize("text", ["{{" + "\t " * 20_000, "{{ x " * 10_000, "{" * 40_000, "{{" + "a " * 20_000 + "}"])
def test_template_takes_time_in_proportion_to_its_length(text: str) -> None:
    assert seconds(lambda: checked_template(text, "grader.input")) < 0.5  # was cubic: hours for the first


def test_template_is_not_filled_beyond_its_limit() -> None:
    places, value = "{{ item.long }}" * 3000, "v" * 90_000
    with pytest.raises(InvalidRequest, match="100,000"):
        assert seconds(lambda: fill(places, Variables("", {"long": value}), "grader.input")) < 0.1


def test_sample_is_parsed_once_for_all_its_places() -> None:
    sample = json.dumps([""] + [1] * 200_000)
    text = "".join(f"{{{{sample.output_json[{'0' * n}]}}}}" for n in range(1, 9)) * 40
    assert seconds(lambda: fill(text, Variables(sample), "grader.input")) < 0.5


def test_word_rules_stop_at_a_deadline() -> None:
    moderator = WordModerator()
    for text in ("k.y.s " * 20_000, "d!e-" * 30_000, " ".join(f"i{n}" for n in range(60_000))):
        with pytest.raises(OutOfTime), time_limit(0.05):
            moderator.moderate([text])
    assert moderator.moderate(["Have a nice day."])[0] is not None


def test_long_text_is_judged_as_its_parts_are() -> None:
    moderator = WordModerator()
    threat = "I will kill you"
    (short,) = moderator.moderate([threat])
    assert short is not None
    assert short.flagged
    for place in (0, 19_970, 19_990, 45_000):
        (found,) = moderator.moderate(["calm " * (place // 5) + threat + " calm" * 9000])
        assert found is not None
        assert set(short.flagged) <= set(found.flagged), place


def test_probe_answers_while_all_threads_are_busy(client: TestClient) -> None:
    from anyio import to_thread

    async def busy() -> int:
        limiter = to_thread.current_default_thread_limiter()
        limiter.total_tokens = 1
        await limiter.acquire()
        return 1

    assert client.portal is not None
    client.portal.call(busy)
    assert client.get("/healthz").status_code == 200


def test_silent_upload_is_given_up(settings: Settings, store: Store, key: str) -> None:
    import asyncio

    from tunesmith.api.middleware.body_limits import BodyLimit

    sent: list[dict[str, object]] = []

    async def app(scope: object, receive: Callable[[], object], send: object) -> None:
        await receive()  # type: ignore[misc]

    async def silence() -> dict[str, object]:
        await asyncio.sleep(60)
        return {}

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/moderations", "query_string": b"", "headers": []}
    asyncio.run(BodyLimit(app, 1000, 0.05)(scope, silence, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 408
