"""A small stand-in for `vllm serve`: a real HTTP server with the routes, shapes and refusals of its documented API.

It has tokens instead of a model: `answers` says what a base or an adapter's path answers.
"""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from tunesmith.models.adapters import AdapterManifest, write_adapter
from tunesmith.models.directory import fingerprint

Json = dict[str, Any]
BASE = "smollm2-135m-instruct"


class FakeVllm:
    def __init__(self) -> None:
        self.url = ""
        self.answers: dict[str, list[int]] = {BASE: []}  # each choice gets its number added to every token
        self.adapters: dict[str, str] = {}  # name -> path
        self.calls: list[str] = []  # what was asked of adapters
        self.bodies: list[Json] = []
        self.clients: set[int] = set()  # ports that completions came from: one a connection
        self.key: str | None = None
        self.updates = True  # VLLM_ALLOW_RUNTIME_LORA_UPDATING
        self.unload_status = 200  # another one refuses to unload
        self.per_chunk = 2
        self.ending = "done"  # how a stream ends: done, silent (no end mark), broken, error, endless
        self.refusal: tuple[int, str] | None = None  # of the next completions
        self.grammars = True  # --structured-outputs-config.backend guidance
        self.max_rank = 16
        self.context = 4096
        self.health = 200
        self.stop: Callable[[], None] = lambda: None
        self.hold = threading.Event()  # until it is set, streams wait after their first chunk
        self.hold.set()
        self.gone = threading.Event()  # a client went away from an endless stream

    def app(self) -> Starlette:
        routes = [
            Route("/v1/models", self.models),
            Route("/version", self.version),
            Route("/health", self.healthy),
            Route("/v1/completions", self.completions, methods=["POST"]),
        ]
        if self.updates:
            routes.append(Route("/v1/load_lora_adapter", self.load, methods=["POST"]))
            routes.append(Route("/v1/unload_lora_adapter", self.unload, methods=["POST"]))
        return Starlette(routes=routes)

    async def models(self, request: Request) -> Response:
        if self.key is not None and request.headers.get("authorization") != f"Bearer {self.key}":
            return JSONResponse({"error": "Unauthorized"}, 401)
        base = {"id": BASE, "object": "model", "root": "/bases/x", "parent": None, "max_model_len": self.context}
        tuned = [{"id": name, "object": "model", "root": path, "parent": BASE} for name, path in self.adapters.items()]
        return JSONResponse({"object": "list", "data": [base, *tuned]})

    async def version(self, request: Request) -> Response:
        return JSONResponse({"version": "0.11.0"})

    async def healthy(self, request: Request) -> Response:
        return Response(status_code=self.health)

    async def load(self, request: Request) -> Response:
        body = await request.json()
        name, path = body["lora_name"], body["lora_path"]
        if not name or not path:
            return refusal(400, "Both 'lora_name' and 'lora_path' must be provided.")
        self.calls.append(f"load {path}")
        if name in self.adapters:
            return refusal(400, f"The lora adapter '{name}' has already been loaded.")
        if path not in self.answers:
            return refusal(404, f"No adapter found for {path}")
        rank = json.loads((Path(path) / "adapter_config.json").read_text(encoding="utf-8"))["r"]
        if rank > self.max_rank:
            text = f"Call to add_lora failed: LoRA rank {rank} is greater than max_lora_rank {self.max_rank}. ({path})"
            return refusal(500, text)
        self.adapters[name] = path
        return PlainTextResponse(f"Success: LoRA adapter '{name}' added successfully.")

    async def unload(self, request: Request) -> Response:
        name = (await request.json())["lora_name"]
        if self.unload_status != 200:
            return refusal(self.unload_status, "EngineCore encountered an issue.")
        if name not in self.adapters:
            return refusal(404, f"The lora adapter '{name}' cannot be found.")
        self.calls.append(f"unload {self.adapters.pop(name)}")
        return PlainTextResponse(f"Success: LoRA adapter '{name}' removed successfully.")

    async def completions(self, request: Request) -> Response:
        body = {"n": 1, "stop_token_ids": [], **await request.json()}
        self.bodies.append(body)
        self.clients.add(request.client.port if request.client else 0)
        where = self.adapters.get(body["model"], body["model"])
        if self.refusal is not None:
            return refusal(*self.refusal)
        if where not in self.answers:
            return refusal(404, f"The model `{body['model']}` does not exist.")
        if "structured_outputs" in body and not self.grammars:  # a refusal inside of a stream, as of vLLM 0.32
            error = {"message": f"Grammar error: no lark in {self.url}", "type": "BadRequestError", "code": 400}
            return PlainTextResponse(f"data: {json.dumps({'error': error})}\n\ndata: [DONE]\n\n")
        if body["n"] > 1 and body["temperature"] == 0:
            return refusal(400, f"n must be 1 when using greedy sampling, got {body['n']}.")
        return StreamingResponse(self.stream(body, self.answers[where]), media_type="text/event-stream")

    async def stream(self, body: Json, tokens: list[int]) -> AsyncIterator[str]:
        for start in range(0, len(tokens), self.per_chunk):
            for index in range(body["n"]):
                yield event({"choices": [choice(body, tokens, index, start, start + self.per_chunk)]})
            while not self.hold.is_set():
                await asyncio.sleep(0.005)
        if self.ending == "endless":
            try:
                while True:
                    yield event({"choices": [{"index": 0, "text": "", "token_ids": [5], "finish_reason": None}]})
                    await asyncio.sleep(0.005)
            finally:
                self.gone.set()
        if self.ending == "error":
            yield event({"error": {"message": "EngineCore encountered an issue.", "type": "x", "code": 500}})
        if self.ending == "broken":
            raise ConnectionError("the machine is gone")
        if self.ending == "done":
            details = {"cached_tokens": 3}
            yield event({"choices": [], "usage": {"prompt_tokens": 4, "prompt_tokens_details": details}})
            yield "data: [DONE]\n\n"


def write_rank_8(directory: Path, base_dir: Path, step: int) -> Path:
    """The files of an adapter without tensors, which a `FakeVllm` finds well; gives the directory."""
    manifest = AdapterManifest(BASE, fingerprint(base_dir), "r", 8, 16.0, ("q_proj",), step=step)
    write_adapter(directory, {}, manifest)
    return directory


def choice(body: Json, tokens: list[int], index: int, start: int, end: int) -> Json:
    """As much of the answer as `max_tokens` and the stop tokens allow."""
    stops = [place for place, token in enumerate(tokens) if token in body["stop_token_ids"]]
    length = min(body["max_tokens"] or 1, stops[0] + 1 if stops else len(tokens))
    ids = [token if token in body["stop_token_ids"] else token + index for token in tokens[start : min(end, length)]]
    ended = start < length <= end
    reason = ("stop" if stops and stops[0] + 1 == length else "length") if ended else None
    text = "a" if body.get("structured_outputs") == {"grammar": 'start: "a"\n'} else "?"
    value: Json = {"index": index, "text": text, "token_ids": ids, "finish_reason": reason, "logprobs": None}
    if body.get("logprobs") is not None:
        likeliest = {f"token_id:{100 + rank}": -0.5 - rank for rank in range(body["logprobs"])}
        tops = [{f"token_id:{token}": -token / 10, **likeliest} for token in ids]
        value["logprobs"] = {"tokens": [], "token_logprobs": [-token / 10 for token in ids], "top_logprobs": tops}
    if body.get("echo") and start == 0:
        echoed(body, value["logprobs"])
    return value


def echoed(body: Json, logprobs: Json) -> None:
    """The prompt comes before the first tokens; alone if no token is asked for, though one was made."""
    prompt, new = body["prompt"], 0 if body["max_tokens"] == 0 else None
    tops = [{f"token_id:{token}": -token / 10, "token_id:100": -0.25} for token in prompt[1:]]
    logprobs["token_logprobs"] = [None, *(-token / 10 for token in prompt[1:]), *logprobs["token_logprobs"][:new]]
    logprobs["top_logprobs"] = [None, *tops, *logprobs["top_logprobs"][:new]]


def event(value: Json) -> str:
    return f"data: {json.dumps({'object': 'text_completion', **value})}\n\n"


def refusal(status: int, message: str) -> Response:
    return JSONResponse({"error": {"message": message, "type": "Error", "param": None, "code": status}}, status)


class Quick(uvicorn.Server):
    """Sees at once that it is to end, and not at the next tenth of a second."""

    async def main_loop(self) -> None:
        await self.on_tick(0)
        while not self.should_exit:
            await asyncio.sleep(0.005)


@contextmanager
def running(fake: FakeVllm, port: int = 0) -> Iterator[FakeVllm]:
    server = Quick(uvicorn.Config(fake.app(), port=port, log_level="critical", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    fake.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    fake.stop = lambda: setattr(server, "should_exit", True)
    yield fake
    fake.stop()
    thread.join(10)
