"""Requests to a base behind vLLM and in the process, as the API makes them."""

import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.remote.vllm_server import VllmServer
from bench.training.rows import write_rows

from tunesmith.errors import TunesmithError
from tunesmith.jsonvalue import JsonObject
from tunesmith.models.directory import pull
from tunesmith.models.registry import resolve_base
from tunesmith.rows.row import ChatRow, read_rows
from tunesmith.serve.chat.answer import Piece, start_chat
from tunesmith.serve.chat.request import chat_request
from tunesmith.serve.engine.protocol import Delta, GenerateRequest, Generation
from tunesmith.serve.loaded_model import LoadedModel
from tunesmith.serve.pool import Pool
from tunesmith.settings import Settings
from tunesmith.wire.body import read
from tunesmith.wire.chat.bodies import Chat

LONGEST = 300  # tokens of a prompt


@dataclass(frozen=True, slots=True)
class Sides:
    """The same base twice."""

    base: str
    base_dir: Path
    here: Pool
    there: Pool

    @classmethod
    def open(cls, base: str, urls: Sequence[str], adapters: int = 64) -> "Sides":
        here = Settings(serve_weights="float32")
        there = here.model_copy(update={"serve_remote": {base: list(urls)}, "serve_remote_adapters": adapters})
        return cls(base, pull(resolve_base(base, here), here), Pool(here), Pool(there))

    def models(self, adapter: Path | None = None) -> tuple[LoadedModel, LoadedModel]:
        """Here, there."""
        here = self.here.open(self.base_dir, adapter, self.base)
        return here, self.there.open(self.base_dir, adapter, self.base)

    def close(self) -> None:
        self.here.close()
        self.there.close()


def make_prompts(loaded: LoadedModel, count: int) -> list[tuple[int, ...]]:
    """Prompts of chat rows made from a seed."""
    with tempfile.TemporaryDirectory() as folder:
        write_rows(Path(folder))
        files = sorted(Path(folder).glob("*.jsonl"))
        rows = [row for file in files for _, row in read_rows(file) if isinstance(row, ChatRow)]
    random.Random(0).shuffle(rows)
    prompts = (tuple(loaded.renderer.prompt(row.messages[:-1], row.tools)) for row in rows)
    return [prompt for prompt in prompts if len(prompt) <= LONGEST][:count]


def request(loaded: LoadedModel, prompt: tuple[int, ...], tokens: int, *, scored: bool = False) -> GenerateRequest:
    """A greedy request with log-probabilities."""
    return GenerateRequest(
        prompt,
        tokens,
        loaded.renderer.eos_ids,
        temperature=0.0,
        top_logprobs=5,
        prompt_logprobs=scored,
        adapter=loaded.adapter,
    )


def begin(loaded: LoadedModel, prompt: tuple[int, ...], tokens: int) -> Generation:
    """An answer that goes on until it has so many tokens, once its first has come."""
    generation = loaded.engine.submit(replace(request(loaded, prompt, tokens), eos_ids=frozenset()))
    next(iter(generation))
    return generation


def answers(loaded: LoadedModel, prompts: Sequence[tuple[int, ...]], tokens: int) -> list[list[Delta]]:
    """All at once."""
    under_way = [loaded.engine.submit(request(loaded, prompt, tokens)) for prompt in prompts]
    return [list(generation) for generation in under_way]


def chat(loaded: LoadedModel, body: JsonObject) -> list[Piece]:
    """A chat's answer in pieces."""
    full: JsonObject = {"model": "m", "temperature": 0, **body}
    return list(start_chat(chat_request(read(Chat, full)), loaded, 200))


def wait_for(loaded: LoadedModel, prompt: tuple[int, ...], seconds: float) -> float:
    """How long it takes until a request is answered."""
    started = time.monotonic()
    while True:
        try:
            answers(loaded, [prompt], 2)
            return time.monotonic() - started
        except TunesmithError:
            if time.monotonic() - started > seconds:
                raise
            time.sleep(0.2)


def loaded_in(server: VllmServer) -> int:
    """How many of our adapters a server has."""
    return sum(name.startswith("tunesmith-") for name in server.adapters())
