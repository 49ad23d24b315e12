"""What a vLLM server may answer, and the errors that it becomes; a real server that answers as it is told."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from tests.fake_vllm import FakeVllm, running

from tunesmith.errors import ServerFault, TunesmithError
from tunesmith.jsonvalue import JsonObject
from tunesmith.serve.vllm.faults import (
    BUSY,
    SHOWN,
    AdapterRefused,
    BrokeOff,
    Busy,
    Failed,
    Misplaced,
    UnknownModel,
    Unreachable,
)
from tunesmith.serve.vllm.server import RemoteServer
from tunesmith.serve.vllm.wire import Chunk

Result = TypeVar("Result")
BASE = "my-base"
WHO = f"The vLLM server that answers for {BASE}"
CARDS = {"data": [{"id": BASE, "root": "/bases/x", "max_model_len": 64}, {"id": "tuned", "parent": BASE}]}


class Scripted(FakeVllm):
    """Answers each path as `responses` says, and remembers the keys it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.responses: dict[str, Response] = {}
        self.keys: set[str | None] = set()

    def app(self) -> Starlette:
        return Starlette(routes=[Route("/{path:path}", self.respond, methods=["GET", "POST"])])

    async def respond(self, request: Request) -> Response:
        self.keys.add(request.headers.get("authorization"))
        return self.responses.get(request.url.path, PlainTextResponse("Not Found", 404))


@pytest.fixture
def fake() -> Iterator[Scripted]:
    fake = Scripted()
    with running(fake):
        yield fake


def ask(fake: FakeVllm, work: Callable[[RemoteServer], Awaitable[Result]], key: str | None = None) -> Result:
    async def run() -> Result:
        server = RemoteServer(BASE, fake.url, key)
        try:
            return await work(server)
        finally:
            await server.close()

    return asyncio.run(run())


async def complete(server: RemoteServer) -> list[Chunk]:
    return [chunk async for chunk in server.complete({"prompt": [1]})]


def stream(text: str) -> Response:
    return PlainTextResponse(text, media_type="text/event-stream")


def test_models_and_version_are_read_and_the_key_is_sent(fake: Scripted) -> None:
    fake.responses = {"/v1/models": JSONResponse(CARDS), "/version": JSONResponse({"version": "0.11.0"})}
    base, tuned = ask(fake, RemoteServer.models, key="secret")
    assert (base.id, base.root, base.parent, base.max_model_len) == (BASE, "/bases/x", None, 64)
    assert (tuned.id, tuned.parent) == ("tuned", BASE)
    assert ask(fake, RemoteServer.version, key="secret") == "0.11.0"
    assert fake.keys == {"Bearer secret"}


def test_without_a_key_none_is_sent(fake: Scripted) -> None:
    fake.responses = {"/v1/models": JSONResponse(CARDS)}
    ask(fake, RemoteServer.models)
    assert fake.keys == {None}


@pytest.mark.parametrize("answer", [PlainTextResponse("no JSON"), JSONResponse(["0.11"]), JSONResponse({})])
def test_a_server_may_keep_its_version_to_itself(fake: Scripted, answer: Response) -> None:
    fake.responses = {"/version": answer}
    assert ask(fake, RemoteServer.version) == ""


@pytest.mark.parametrize("body", ["<html>It works!</html>", '{"models": []}', '{"data": [{"name": "x"}]}'])
def test_something_else_at_the_address_is_told(fake: Scripted, body: str) -> None:
    fake.responses = {"/v1/models": PlainTextResponse(body)}
    with pytest.raises(Misplaced) as caught:
        ask(fake, RemoteServer.models)
    assert caught.value.message == (
        f"What answers for {BASE} does not do so as vLLM does. Correct the setting `serve_remote`."
    )
    assert caught.value.detail == f"{fake.url} answered {body!r}"


def test_server_of_another_base_is_told_what_to_do(fake: Scripted) -> None:
    fake.responses = {"/v1/models": JSONResponse({"data": [{"id": "other"}, {"id": BASE, "parent": "other"}]})}
    with pytest.raises(Misplaced, match=f"serves another model. .*--served-model-name {BASE}") as caught:
        ask(fake, RemoteServer.models)
    assert caught.value.detail == f"{fake.url} serves 'other'"


def test_dead_engine_behind_a_living_server_is_noticed(fake: Scripted) -> None:
    ask(fake, RemoteServer.check_health)  # a proxy may not have the route
    fake.responses = {"/health": PlainTextResponse("", 503)}
    with pytest.raises(Busy):
        ask(fake, RemoteServer.check_health)


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (401, Misplaced, "refuses our key. Set `serve_remote_key` to the value of its --api-key."),
        (403, Misplaced, "refuses our key. Set `serve_remote_key` to the value of its --api-key."),
        *((status, Busy, "is busy; try again later.") for status in sorted(BUSY)),
        (404, UnknownModel, "does not know the model that it was asked for. Ask again."),
        (500, Failed, "failed. The logs of both servers say more; it may have to be restarted."),
        (418, ServerFault, "refused the request. The log of this server has its words."),
    ],
)
def test_each_status_is_an_error_of_its_own(
    fake: Scripted, status: int, kind: type[TunesmithError], words: str
) -> None:
    fake.responses = {
        path: JSONResponse({"error": {"message": "too much"}}, status) for path in ("/v1/models", "/v1/completions")
    }
    for work in (RemoteServer.models, complete):
        with pytest.raises(TunesmithError) as caught:
            ask(fake, work)
        assert type(caught.value) is kind
        assert caught.value.message == f"{WHO} {words}"
        assert caught.value.detail == f"{fake.url} answered {status}, 'too much'"


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        (JSONResponse({"message": "old style"}, 418), "'old style'"),
        (JSONResponse({"error": "a text"}, 418), repr('{"error":"a text"}')),
        (JSONResponse([1], 418), "'[1]'"),
        (PlainTextResponse("plain", 418), "'plain'"),
        (PlainTextResponse("x" * 10_000, 418), repr("x" * SHOWN)),
    ],
    ids=["older", "text", "list", "plain", "long"],
)
def test_a_refusal_shows_what_the_server_said_but_not_all_of_a_long_page(
    fake: Scripted, answer: Response, shown: str
) -> None:
    fake.responses = {"/v1/models": answer}
    with pytest.raises(ServerFault) as caught:
        ask(fake, RemoteServer.models)
    assert caught.value.detail == f"{fake.url} answered 418, {shown}"


def test_an_adapter_that_the_server_has_already_is_no_error(fake: Scripted, tmp_path: Path) -> None:
    refused = JSONResponse({"error": {"message": "has already been loaded"}}, 400)
    fake.responses = {"/v1/load_lora_adapter": refused, "/v1/models": JSONResponse(CARDS)}
    ask(fake, lambda server: server.load_adapter("tuned", tmp_path))
    with pytest.raises(AdapterRefused, match="did not load this model's adapter") as caught:
        ask(fake, lambda server: server.load_adapter("another", tmp_path))
    assert caught.value.detail == f"{fake.url} answered 400, 'has already been loaded' to {tmp_path}"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (PlainTextResponse("Not Found", 404), "Start it with --enable-lora"),
        (PlainTextResponse("Method Not Allowed", 405), "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"),
        (JSONResponse({"error": {"message": "no such path"}}, 404), "must be there under the same path"),
        (
            JSONResponse({"error": {"message": "rank 64 is greater than max_lora_rank 16"}}, 500),
            "a higher rank than that server takes. Start it with a higher --max-lora-rank",
        ),
        (JSONResponse({}, 401), "Set `serve_remote_key`"),
        (JSONResponse({}, 503), "is busy"),
    ],
)
def test_a_refused_adapter_says_what_the_server_needs(
    fake: Scripted, answer: Response, words: str, tmp_path: Path
) -> None:
    fake.responses = {"/v1/load_lora_adapter": answer}
    with pytest.raises(TunesmithError) as caught:
        ask(fake, lambda server: server.load_adapter("name", tmp_path))
    assert words in caught.value.message
    assert fake.url not in caught.value.message
    assert str(tmp_path) not in caught.value.message


def test_unloading_what_is_not_there_is_no_error(fake: Scripted) -> None:
    fake.responses = {"/v1/unload_lora_adapter": JSONResponse({"error": {"message": "cannot be found"}}, 404)}
    ask(fake, lambda server: server.unload_adapter("x"))
    fake.responses = {"/v1/unload_lora_adapter": JSONResponse({}, 500)}
    with pytest.raises(ServerFault, match="failed"):
        ask(fake, lambda server: server.unload_adapter("x"))


def test_a_stream_is_its_events_up_to_the_end_mark(fake: Scripted) -> None:
    event = '{"choices": [{"index": 0, "token_ids": [5]}]}'
    fake.responses = {"/v1/completions": stream(f"data: {event}\n\ndata:{event}\n\ndata: [DONE]\n\ndata: {event}\n\n")}
    chunks = ask(fake, complete)
    assert [choice.token_ids for chunk in chunks for choice in chunk.choices] == [[5], [5]]


def test_a_stream_without_its_end_mark_broke_off(fake: Scripted) -> None:
    fake.responses = {"/v1/completions": stream('data: {"choices": []}\n\n')}
    with pytest.raises(BrokeOff, match=r"broke off\. Ask again\.") as caught:
        ask(fake, complete)
    assert (caught.value.status, caught.value.code) == (503, "remote_broke_off")


@pytest.mark.parametrize("data", ["no JSON", '{"choices": [{"index": "first"}]}', "[]"])
def test_an_event_of_another_shape_is_told(fake: Scripted, data: str) -> None:
    fake.responses = {"/v1/completions": stream(f"data: {data}\n\n")}
    with pytest.raises(Misplaced, match="does not do so as vLLM does") as caught:
        ask(fake, complete)
    assert caught.value.detail == f"{fake.url} answered {data!r}"


def test_failure_in_mid_stream_keeps_vllms_words_for_the_log(fake: Scripted) -> None:
    fake.responses = {"/v1/completions": stream('data: {"error": {"message": "no room at /dev/shm"}}\n\n')}
    with pytest.raises(Failed) as caught:
        ask(fake, complete)
    assert (
        caught.value.message
        == f"The vLLM server that answers for {BASE} failed in the middle of the answer. Ask again."
    )
    assert caught.value.detail == f"{fake.url} said 'no room at /dev/shm'. Its log says more"


def in_stream(status: int) -> Response:
    return stream(f'data: {{"error": {{"message": "no lark", "code": {status}}}}}\n\ndata: [DONE]\n\n')


@pytest.mark.parametrize(
    ("answer", "held", "code"),
    [
        (JSONResponse({"error": {"message": "no lark"}}, 400), True, "remote_refused_grammar"),
        (JSONResponse({"error": {"message": "no lark"}}, 400), False, "remote_refused"),
        (JSONResponse({"error": {"message": "no lark"}}, 500), True, "remote_failed"),
        (in_stream(400), True, "remote_refused_grammar"),
        (in_stream(400), False, "remote_refused"),
        (in_stream(404), False, "remote_unknown_model"),
        (in_stream(500), True, "remote_failed"),
    ],
)
def test_refused_grammar_names_the_option_of_vllm(fake: Scripted, answer: Response, held: bool, code: str) -> None:
    fake.responses = {"/v1/completions": answer}

    async def work(server: RemoteServer) -> list[Chunk]:
        body: JsonObject = {"prompt": [1], **({"structured_outputs": {"grammar": "x"}} if held else {})}
        return [chunk async for chunk in server.complete(body)]

    with pytest.raises(ServerFault) as caught:
        ask(fake, work)
    assert caught.value.code == code
    named = "--structured-outputs-config.backend guidance" in caught.value.message
    assert named == (code == "remote_refused_grammar")
    assert "no lark" not in caught.value.message
    assert f"{fake.url} " in str(caught.value.detail)
    assert "'no lark'" in str(caught.value.detail)


def test_nobody_at_the_address_is_said_and_the_address_is_for_the_log() -> None:
    gone = FakeVllm()
    with running(gone):
        pass
    for work in (RemoteServer.models, RemoteServer.version, complete):
        with pytest.raises(Unreachable) as caught:
            ask(gone, work)
        assert (caught.value.status, caught.value.code) == (503, "remote_unreachable")
        assert (
            caught.value.message == f"The vLLM server that answers for {BASE} cannot be reached. Ask again in a moment."
        )
        assert f"{gone.url}: " in str(caught.value.detail)
