"""The HTTP client of the commands: against a real server, and against answers that only a faulty one gives."""

import json
from collections.abc import Iterator

import pytest
from tests.cli.conftest import JOKES, Server
from tests.cli.scripted_server import HANG_UP, ScriptedServer, scripted

from tunesmith.client import Client, ServerRefused, ServerUnreachable

JOB = {"id": "ftjob-1", "model": "base", "status": "running", "created_at": 5, "training_file": "file-1"}


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    opened = Client(server.base_url, server.key)
    yield opened
    opened.close()


@pytest.fixture
def faulty() -> Iterator[tuple[ScriptedServer, Client]]:
    with scripted() as script:
        opened = Client(script.base_url, "sk-test")
        yield script, opened
        opened.close()


def sse(*events: object) -> bytes:
    return b"".join(f"data: {json.dumps(event)}\n\n".encode() for event in events) + b"data: [DONE]\n\n"


def delta(**values: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": values}]}


@pytest.mark.parametrize("written", ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/"])
def test_base_url_may_end_in_v1_or_not(written: str) -> None:
    assert Client(written, "key").base_url == "http://h:1/v1"


def test_upload_keeps_name_and_bytes(client: Client) -> None:
    file = client.upload(JOKES)
    assert (file.filename, file.bytes) == (JOKES.name, JOKES.stat().st_size)
    assert file.wire["object"] == "file"
    assert client.content(file.id) == JOKES.read_bytes()


def test_upload_for_an_unknown_purpose_is_refused_with_the_field(client: Client) -> None:
    with pytest.raises(ServerRefused) as refused:
        client.upload(JOKES, purpose="decoration")
    assert (refused.value.status_code, refused.value.param) == (400, "purpose")


def test_job_has_the_wires_fields_and_keeps_all_of_them(client: Client, trained: str) -> None:
    job = client.job(trained)
    assert job.finished
    assert job.fine_tuned_model is not None
    assert job.fine_tuned_model.startswith("ft:")
    assert job.trained_tokens
    assert job.wire["object"] == "fine_tuning.job"
    assert job.tunesmith["adapter"] == "lora"


def test_jobs_and_events_come_newest_first_and_no_more_than_asked(client: Client, trained: str) -> None:
    assert [job.id for job in client.jobs(100)].count(trained) == 1
    events = client.events(trained, 3)
    assert len(events) == 3
    assert "successfully completed" in events[0].message
    assert events[0].created_at >= events[-1].created_at


def test_unknown_job_is_refused_with_the_servers_message(client: Client) -> None:
    with pytest.raises(ServerRefused) as refused:
        client.job("ftjob-nothing")
    assert (refused.value.status_code, refused.value.code) == (404, "fine_tune_not_found")
    assert refused.value.message == (
        "Could not find fine tune: ftjob-nothing. GET /v1/fine_tuning/jobs lists the jobs of this project."
    )


def test_models_name_what_an_alias_is_for(client: Client) -> None:
    owners = {model.id: model.owned_by for model in client.models()}
    assert owners["gpt-4o-mini"] == "alias-of:smollm2-135m-instruct"


def test_chat_streams_the_text_in_pieces(client: Client) -> None:
    messages = [{"role": "user", "content": "Count: one, two, three,"}]
    pieces = list(client.chat("gpt-3.5-turbo", messages, temperature=0, max_tokens=6))
    assert len(pieces) > 1
    assert "".join(pieces).strip()


def test_chat_with_a_wrong_option_is_refused_before_the_stream(client: Client) -> None:
    with pytest.raises(ServerRefused) as refused:
        list(client.chat("gpt-3.5-turbo", [{"role": "user", "content": "Hi"}], temperature=9))
    assert (refused.value.status_code, refused.value.param) == (400, "temperature")


def test_is_alive_tells_and_never_raises(client: Client) -> None:
    assert client.is_alive()
    nobody = Client("http://127.0.0.1:9/v1", "key")
    assert not nobody.is_alive()
    nobody.close()


def test_is_alive_is_false_for_a_server_that_refuses(faulty: tuple[ScriptedServer, Client]) -> None:
    script, client = faulty
    script.answer("GET /healthz", {}, status=503)
    assert not client.is_alive()


def test_key_goes_along_with_every_request(faulty: tuple[ScriptedServer, Client]) -> None:
    script, client = faulty
    script.answer("GET /v1/models", {"data": []})
    assert client.models() == []
    assert script.keys == ["Bearer sk-test"]


def test_pages_are_read_until_the_limit(faulty: tuple[ScriptedServer, Client]) -> None:
    script, client = faulty
    rows = [{**JOB, "id": f"ftjob-{number}"} for number in range(250)]
    script.answer(
        "GET /v1/fine_tuning/jobs",
        {"data": rows[:100], "has_more": True},
        {"data": rows[100:200], "has_more": True},
        {"data": rows[200:220], "has_more": True},
    )
    assert [job.id for job in client.jobs(220)] == [row["id"] for row in rows[:220]]
    path = "GET /v1/fine_tuning/jobs?limit="
    assert script.asked == [f"{path}100", f"{path}100&after=ftjob-99", f"{path}20&after=ftjob-199"]


def test_last_page_ends_the_reading(faulty: tuple[ScriptedServer, Client]) -> None:
    script, client = faulty
    script.answer("GET /v1/fine_tuning/jobs", {"data": [JOB], "has_more": False})
    assert len(client.jobs(50)) == 1
    assert len(script.asked) == 1


def test_empty_page_that_claims_more_ends_the_reading(faulty: tuple[ScriptedServer, Client]) -> None:
    script, client = faulty
    script.answer("GET /v1/fine_tuning/jobs", {"data": [], "has_more": True})
    assert client.jobs(50) == []
    assert len(script.asked) == 1


def test_answer_that_is_not_json_points_to_the_address(faulty: tuple[ScriptedServer, Client]) -> None:
    script, client = faulty
    script.answer("GET /v1/models", b"<html>a router's login page</html>")
    with pytest.raises(ServerUnreachable, match="not as a Tunesmith server does"):
        client.models()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"Bad Gateway", "The server answered 502: Bad Gateway"),
        (b'{"detail": "no"}', 'The server answered 502: {"detail": "no"}'),
        (b'{"error": "text"}', 'The server answered 502: {"error": "text"}'),
        (b'["list"]', 'The server answered 502: ["list"]'),
        (b"x" * 500, f"The server answered 502: {'x' * 200}"),
    ],
)
def test_error_without_openais_envelope_keeps_status_and_text(
    faulty: tuple[ScriptedServer, Client], body: bytes, message: str
) -> None:
    script, client = faulty
    script.answer("GET /v1/models", body, status=502)
    with pytest.raises(ServerRefused) as refused:
        client.models()
    assert (refused.value.status_code, refused.value.message) == (502, message)


def test_error_in_the_middle_of_a_stream_is_raised_after_the_text(faulty: tuple[ScriptedServer, Client]) -> None:
    script, client = faulty
    script.answer("POST /v1/chat/completions", sse(delta(content="Hel"), {"error": {"message": "out of memory"}}))
    pieces = client.chat("m", [])
    assert next(pieces) == "Hel"
    with pytest.raises(ServerRefused, match="out of memory"):
        next(pieces)


def test_stream_skips_comments_and_chunks_without_text(faulty: tuple[ScriptedServer, Client]) -> None:
    script, client = faulty
    chunks: tuple[dict[str, object], ...] = (
        delta(role="assistant", content=""),
        delta(content="Hi"),
        {"choices": [], "usage": {}},
        delta(),
    )
    script.answer("POST /v1/chat/completions", b": keep alive\n\n" + sse(*chunks))
    assert list(client.chat("m", [{"role": "user", "content": "x"}], seed=3)) == ["Hi"]
    sent = json.loads(script.bodies[0])
    assert sent == {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": True, "seed": 3}


def test_stream_that_breaks_off_is_unreachable(faulty: tuple[ScriptedServer, Client]) -> None:
    script, client = faulty
    script.answer("POST /v1/chat/completions", HANG_UP)
    with pytest.raises(ServerUnreachable, match="No server answers at"):
        list(client.chat("m", []))


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "http://[::1", "ftp://127.0.0.1"])
def test_address_that_nothing_answers_at_is_unreachable(address: str) -> None:
    client = Client(address, "key")
    with pytest.raises(ServerUnreachable, match="tunesmith serve"):
        client.models()


def test_proxy_of_the_environment_is_not_used(
    faulty: tuple[ScriptedServer, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    script, _ = faulty
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    script.answer("GET /v1/models", {"data": []})
    client = Client(script.base_url, "key")
    assert client.models() == []
    client.close()
