"""Requests to vLLM's /v1/completions, and the tokens in its answers.

From vLLM 0.12 on; `make trial-vllm` tries it. Whatever such a server would take from a model's
`generation_config.json` (temperature, top_k, stop tokens) is sent with every request, so that the answer depends on the
request alone.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import TypeAlias

from pydantic import BaseModel, Field

from tunesmith.errors import ServerFault
from tunesmith.jsonvalue import JsonObject
from tunesmith.serve.engine.protocol import GREEDY_BELOW, Delta, Finish, GenerateRequest

SMALLEST_TOP_P = 1e-6  # vLLM refuses 0, which means only the likeliest token
ID_MARK = "token_id:"  # followed by the id; stands for a token's text in `top_logprobs`

Entry: TypeAlias = tuple[float | None, tuple[tuple[int, float], ...]]  # a token's log-probability, and the likeliest
NOTHING_SAID: Entry = (None, ())


class Card(BaseModel):
    """An entry of /v1/models: a base, or an adapter with the base as its `parent`."""

    id: str
    root: str | None = None
    parent: str | None = None
    max_model_len: int | None = None


class Models(BaseModel):
    """The answer of /v1/models."""

    data: list[Card]


class Logprobs(BaseModel):
    """Log-probabilities, one entry for each token of the chunk."""

    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]


class Choice(BaseModel):
    """New tokens of one choice."""

    index: int
    text: str = ""
    token_ids: list[int] | None = None
    logprobs: Logprobs | None = None
    finish_reason: str | None = None


class PromptDetails(BaseModel):
    """What `Usage` says about the prompt."""

    cached_tokens: int | None = None


class Usage(BaseModel):
    """Token counts, in the last event of a stream."""

    prompt_tokens_details: PromptDetails | None = None


class Trouble(BaseModel):
    """A refusal or a failure in a stream, which begins with status 200 all the same."""

    message: str
    code: int | str | None = None  # an HTTP status


class Chunk(BaseModel):
    """One event of a stream; an `error` if the server failed in the middle."""

    choices: list[Choice] = Field(default_factory=list)
    usage: Usage | None = None
    error: Trouble | None = None

    @property
    def cached_tokens(self) -> int:
        """The prompt's tokens that came from the server's prefix cache."""
        details = None if self.usage is None else self.usage.prompt_tokens_details
        return (details.cached_tokens or 0) if details is not None else 0


def request_body(request: GenerateRequest, model: str) -> JsonObject:
    """The body of a request to `model`, which is the base's name or an adapter's."""
    greedy = request.temperature < GREEDY_BELOW
    body: JsonObject = {
        "model": model,
        "prompt": [*request.prompt],
        "max_tokens": request.max_tokens,
        "n": _choices_to_request(request),
        "temperature": 0.0 if greedy else request.temperature,
        "top_p": max(request.top_p, SMALLEST_TOP_P),
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": request.presence_penalty,
        "frequency_penalty": request.frequency_penalty,
        "logit_bias": {str(token): value for token, value in request.logit_bias} or None,
        "seed": request.seed,
        "ignore_eos": True,  # the server's own; ours follow
        "stop_token_ids": [*sorted(request.eos_ids)],
        "return_token_ids": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return body | _extras(request)


def _extras(request: GenerateRequest) -> JsonObject:
    """What only some requests have."""
    extras: JsonObject = {}
    if request.top_logprobs is not None:
        extras |= {"logprobs": request.top_logprobs, "return_tokens_as_token_ids": True}
    if request.prompt_logprobs:
        extras["echo"] = True
    if request.grammar is not None:
        extras["structured_outputs"] = {"grammar": request.grammar.text}
    if request.project:
        extras["cache_salt"] = request.project  # keeps the prefix caches of projects apart
    return extras


class ChunkReader:
    """Turns the chunks of one request into deltas."""

    def __init__(self, request: GenerateRequest) -> None:
        self.prompt: list[Delta] = []  # the prompt's tokens from the second on, if requested, once they have come
        self._request = request
        self._requested = _choices_to_request(request)
        self._made = [0] * self._requested
        self._finished: set[int] = set()

    def finished(self, choice: int) -> bool:
        """True once the server has ended this choice."""
        return choice % self._requested in self._finished

    def read(self, chunk: Chunk) -> list[Delta]:
        """The deltas in `chunk`. Raises ServerFault if it does not fit the request."""
        return [copied for choice in chunk.choices for delta in self._deltas(choice) for copied in self._copies(delta)]

    def _copies(self, delta: Delta) -> Iterator[Delta]:
        """The delta for every choice: a greedy request asks vLLM for one only."""
        return (replace(delta, choice=delta.choice + index) for index in range(self._request.n // self._requested))

    def _deltas(self, choice: Choice) -> list[Delta]:
        _check(choice, self._requested)
        entries = self._entries(choice)
        if not self._request.max_tokens:  # vLLM makes one token all the same
            self._finished.add(choice.index)
            return []
        deltas: list[Delta] = []
        for place, token in enumerate(choice.token_ids or ()):
            if choice.index not in self._finished:
                self._made[choice.index] += 1
                deltas.append(self._delta(choice.index, token, entries[place] if entries else NOTHING_SAID))
        if choice.finish_reason is not None and choice.index not in self._finished:
            deltas = self._ended(choice, deltas)
        return deltas

    def _entries(self, choice: Choice) -> "list[Entry]":
        """What is said of each new token; the prompt's entries, which come before the first one's, are kept."""
        tokens = len(choice.token_ids or ()) if self._request.max_tokens else 0
        if self._request.top_logprobs is None or (choice.logprobs is None and not tokens):
            return []
        entries = _logprobs(choice, self._request.top_logprobs)
        if self._request.prompt_logprobs and len(entries) == len(self._request.prompt) + tokens:
            pairs = zip(self._request.prompt, entries, strict=False)
            self.prompt = self.prompt or [Delta(0, token, *entry) for token, entry in pairs][1:]
            entries = entries[len(self._request.prompt) :]
        if len(entries) != tokens:
            raise ServerFault(f"vLLM sent log-probabilities of {len(entries)} tokens for {tokens}.")
        return entries

    def _delta(self, choice: int, token: int, entry: "Entry") -> Delta:
        finish = self._finish(token, self._made[choice])
        if finish is not None:
            self._finished.add(choice)
        return Delta(choice, token, *entry, finish=finish)

    def _finish(self, token: int, made: int) -> Finish | None:
        if token in self._request.eos_ids:
            return "stop"
        return "length" if made >= self._request.max_tokens else None

    def _ended(self, choice: Choice, deltas: list[Delta]) -> list[Delta]:
        """Finishes a choice that the server ended first, at its own stop token or a smaller context than it said."""
        self._finished.add(choice.index)
        if choice.finish_reason == "length" and deltas:
            return [*deltas[:-1], replace(deltas[-1], finish="length")]
        if choice.finish_reason == "stop" and self._request.eos_ids:
            return [*deltas, Delta(choice.index, min(self._request.eos_ids), finish="stop")]
        raise ServerFault("vLLM ended the answer early. Its log says why; ask again.", detail=choice.finish_reason)


def _choices_to_request(request: GenerateRequest) -> int:
    """The choices to request: vLLM refuses several of a greedy request, which would all be equal."""
    return 1 if request.temperature < GREEDY_BELOW else request.n


def _check(choice: Choice, requested: int) -> None:
    if choice.token_ids is None:
        raise ServerFault("vLLM sent text without token ids; it needs `return_token_ids`: upgrade it to 0.12 or later.")
    if not 0 <= choice.index < requested:
        raise ServerFault(f"vLLM sent choice {choice.index} where {requested} were asked for. Is it really vLLM?")


def _logprobs(choice: Choice, wanted: int) -> list[Entry]:
    found = choice.logprobs
    if found is None or len(found.token_logprobs) != len(found.top_logprobs):
        raise ServerFault("vLLM sent tokens without their log-probabilities. Is it really vLLM?")
    pairs = zip(found.token_logprobs, found.top_logprobs, strict=True)
    return [(logprob, _top(top or {}, wanted)) for logprob, top in pairs]


def _top(logprobs: dict[str, float], wanted: int) -> tuple[tuple[int, float], ...]:
    """The `wanted` likeliest tokens, likeliest first; vLLM adds the chosen token if it is not one of them."""
    pairs = [(int(token.removeprefix(ID_MARK)), logprob) for token, logprob in logprobs.items()]
    return tuple(sorted(pairs, key=lambda pair: -pair[1])[:wanted])
