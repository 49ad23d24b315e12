"""What `bench/remote/trial.py` tries: each check gives a sentence for its table, or raises AssertionError."""

import json
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jsonschema_rs
from bench.remote.asking import Sides, answers, begin, chat, loaded_in, request, wait_for
from bench.remote.vllm_server import VllmServer

from tunesmith.errors import ServerFault, ServiceUnavailable
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.serve.chat.answer import Piece
from tunesmith.serve.engine.protocol import Delta
from tunesmith.serve.loaded_model import LoadedModel

Prompts = Sequence[tuple[int, ...]]
Pair = tuple[VllmServer, VllmServer]
TOKENS = 24
CLOSE = 1e-3  # nats; both are float32, with sums in another order
BACK_SECONDS = 120.0

WEATHER: JsonObject = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 20},
        "celsius": {"type": "integer", "minimum": -60, "maximum": 60},
        "rain": {"type": "boolean"},
    },
    "required": ["city", "celsius", "rain"],
    "additionalProperties": False,
}
CLOSED: JsonObject = {"type": "object", "additionalProperties": False}  # so that a small model comes to an end
SCHEMAS: tuple[JsonObject, ...] = (
    WEATHER,
    {**CLOSED, "properties": {"kind": {"enum": ["rain", "snow", "sun"]}}, "required": ["kind"]},
    {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 9}, "minItems": 2, "maxItems": 3},
    {"anyOf": [{"type": "null"}, {"type": "string", "pattern": "^[A-Z][a-z]{2,8}$"}]},
    {**CLOSED, "properties": {"at": {"type": "string", "format": "date"}}, "required": ["at"]},
    {"$defs": {"n": {**CLOSED, "properties": {"next": {"type": "null"}}}}, "$ref": "#/$defs/n"},
)


def greedy(sides: Sides, prompts: Prompts, adapter: Path | None = None) -> str:
    """Texts equal to the in-process engine's, and how close the two likeliest were where they part."""
    here, there = sides.models(adapter)
    mine, theirs = answers(here, prompts, TOKENS), answers(there, prompts, TOKENS)
    margins = [parting for one, other in zip(mine, theirs, strict=True) if (parting := _margin(one, other)) is not None]
    assert all(margin < 0.05 for margin in margins), f"texts part where the model is sure: {margins}"
    listed = f"; they part where the two likeliest are {_nats(margins)} nats apart" if margins else ""
    return f"{len(prompts) - len(margins)} of {len(prompts)} texts of {TOKENS} tokens equal{listed}"


def log_probabilities(sides: Sides, prompts: Prompts) -> str:
    here, there = sides.models()
    worst = 0.0
    for one, other in zip(answers(here, prompts, TOKENS), answers(there, prompts, TOKENS), strict=True):
        for mine, theirs in zip(one, other, strict=False):
            if mine.token != theirs.token:
                break
            worst = max(worst, _apart(mine, theirs))
    assert worst < CLOSE, worst
    return f"at most {worst:.1e} apart: the chosen token's and the five likeliest's, {len(prompts)} answers"


def scored_prompts(sides: Sides, prompts: Prompts) -> str:
    """One at a time: vLLM's CPU build ends in a batch with adapters enabled."""
    here, there = sides.models()
    worst = 0.0
    for prompt in prompts:
        for tokens in (0, 1):
            mine, theirs = (side.engine.submit(request(side, prompt, tokens, scored=True)) for side in (here, there))
            assert len(list(mine)) == len(list(theirs)) == tokens
            assert [one.token for one in theirs.prompt] == [*prompt[1:]]
            worst = max(worst, *(_apart(one, other) for one, other in zip(mine.prompt, theirs.prompt, strict=True)))
    assert worst < CLOSE, worst
    return f"at most {worst:.1e} apart, {len(prompts)} prompts of {len(prompts[0])} and more tokens"


def streams(sides: Sides) -> str:
    _, there = sides.models()
    pieces = chat(there, {"messages": [_user("Count to twenty.")], "max_tokens": 30})
    text = [piece for piece in pieces if piece.text]
    assert len(text) > 10, pieces
    return f"{len(text)} pieces of text for {len(pieces)} tokens"


def schemas(sides: Sides) -> str:
    here, there = sides.models()
    equal = 0
    for schema in SCHEMAS:
        given: JsonObject = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": False}}
        body: JsonObject = {"messages": [_user("The weather in Oslo, as JSON.")], "response_format": given}
        mine, theirs = _text(chat(here, body)), _text(chat(there, body))
        jsonschema_rs.validate(schema, json.loads(theirs))
        equal += mine == theirs
    return f"{len(SCHEMAS)} of {len(SCHEMAS)} answers valid, {equal} equal to the in-process engine's"


def tools(sides: Sides) -> str:
    here, there = sides.models()
    equal = 0
    ways: tuple[JsonValue, ...] = ("required", {"type": "function", "function": {"name": "weather"}}, "auto")
    for choice in ways:
        function: JsonObject = {"name": "weather", "parameters": WEATHER, "strict": choice == "auto"}
        body: JsonObject = {
            "messages": [_user("What is the weather in Oslo? Call the function.")],
            "tools": [{"type": "function", "function": function}],
            "tool_choice": choice,
        }
        mine, theirs = chat(here, body), chat(there, body)
        calls = [call for piece in theirs for call in piece.calls]
        if choice != "auto":
            assert calls[0].name == "weather"
            jsonschema_rs.validate(WEATHER, json.loads("".join(call.arguments for call in calls if call.index == 0)))
        equal += (_text(mine), _calls(mine)) == (_text(theirs), _calls(theirs))
    return f"forced, named and strict: calls valid, {equal} of {len(ways)} answers equal to the in-process engine's"


def eviction(sides: Sides, prompts: Prompts, adapters: Sequence[Path], pair: Pair) -> str:
    """The side's pool keeps two adapters in a server."""
    for adapter in (*adapters, *adapters):
        greedy(sides, prompts[:2], adapter)
    counts = [loaded_in(server) for server in pair]
    assert 0 < max(counts) <= 2, counts
    return f"{len(adapters)} adapters in turn, twice: {' and '.join(map(str, counts))} of them in the two servers"


def rank(sides: Sides, too_high: Path) -> str:
    _, there = sides.models(too_high)
    told = ""
    try:
        answers(there, [(1, 2)], 2)
    except ServerFault as error:
        told = error.message
    assert "higher rank than that server takes" in told, told
    assert str(too_high) not in told
    assert "127.0.0.1" not in told
    return f"refused: “{told}”"


def hang_up(sides: Sides, prompts: Prompts, pair: Pair) -> str:
    _, there = sides.models()
    generation = begin(there, prompts[0], 1500)
    assert sum(server.running() for server in pair) == 1
    generation.close()
    seconds = _until(lambda: sum(server.running() for server in pair) == 0, 20)
    return f"vLLM had dropped the request after {seconds:.1f} s"


def spread(sides: Sides, prompts: Prompts, pair: Pair) -> str:
    _, there = sides.models()
    under_way = [begin(there, prompt, 1000) for prompt in prompts[:6]]
    counts = [server.running() for server in pair]
    for generation in under_way:
        generation.close()
    assert counts == [3, 3], counts
    return "6 requests at once: 3 in each server"


def restart(sides: Sides, prompts: Prompts, adapter: Path, pair: Pair) -> str:
    """Both, one after the other, while an adapter is asked for."""
    here, there = sides.models(adapter)
    expected = [delta.token for delta in answers(here, prompts[:1], 8)[0]]
    failures = asked = 0
    for server in pair:
        server.end()
        server.start()
        deadline = time.monotonic() + BACK_SECONDS
        while not server.healthy() and time.monotonic() < deadline:
            asked += 1
            failures += _ask(there, prompts[0], 8) != expected
            time.sleep(0.5)
        server.wait()
        time.sleep(5)  # a probe may be as late
    return f"both, one after the other: {failures} of {asked} requests to a tuned model failed meanwhile"


def killed(sides: Sides, prompts: Prompts, pair: Pair) -> str:
    _, there = sides.models()
    stream = iter(begin(there, prompts[0], 1500))
    victim = next(server for server in pair if server.running())
    victim.end(signal.SIGKILL)
    started = time.monotonic()
    try:
        tokens = sum(1 for _ in stream)
    except ServiceUnavailable as error:
        told = f"“{error.message}” after {time.monotonic() - started:.1f} s"
    else:
        raise AssertionError(f"the stream ended after {tokens} tokens as if nothing had happened")
    missed = sum(_ask(there, prompt, 8) is None for prompt in prompts[:5])
    assert missed == 0
    victim.start()
    victim.wait()
    back = _until(lambda: _takes(there, victim, prompts[0]), BACK_SECONDS)
    return f"the stream ended with {told}; 5 of the next 5 requests answered; requests {back:.0f} s after its return"


def all_gone(sides: Sides, prompts: Prompts, pair: Pair) -> str:
    _, there = sides.models()
    for server in pair:
        server.end(signal.SIGKILL)
    _ask(there, prompts[0], 2)
    try:
        there.engine.submit(request(there, prompts[0], 2))
    except ServiceUnavailable as error:
        told = f"503, retry-after {error.retry_after}: “{error.message}”"
    else:
        raise AssertionError("a request was taken")
    pair[0].start()
    pair[0].wait()
    return f"{told}; answered {wait_for(there, prompts[0], BACK_SECONDS):.0f} s after one was back"


def _takes(loaded: LoadedModel, server: VllmServer, prompt: tuple[int, ...]) -> bool:
    """True if the server is one of two that take two requests."""
    under_way = [begin(loaded, prompt, 500) for _ in range(2)]
    count = server.running()
    for generation in under_way:
        generation.close()
    return count == 1


def _ask(loaded: LoadedModel, prompt: tuple[int, ...], tokens: int) -> list[int] | None:
    try:
        return [delta.token for delta in answers(loaded, [prompt], tokens)[0]]
    except (ServerFault, ServiceUnavailable):
        return None


def _margin(one: Sequence[Delta], other: Sequence[Delta]) -> float | None:
    """How far the two likeliest tokens are apart where two answers part; None if they are equal."""
    for mine, theirs in zip(one, other, strict=False):
        if mine.token != theirs.token:
            return mine.top[0][1] - mine.top[1][1]
    return None if len(one) == len(other) else float("inf")


def _apart(one: Delta, other: Delta) -> float:
    theirs = dict(other.top)
    both = [abs(value - theirs[token]) for token, value in one.top if token in theirs]
    return max(abs((one.logprob or 0.0) - (other.logprob or 0.0)), *both)


def _until(condition: Callable[[], bool], seconds: float) -> float:
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, "it did not come about"
        time.sleep(0.1)
    return time.monotonic() - started


def _user(text: str) -> JsonObject:
    return {"role": "user", "content": text}


def _text(pieces: Sequence[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def _calls(pieces: Sequence[Piece]) -> list[tuple[str | None, str]]:
    return [(call.name, call.arguments) for piece in pieces for call in piece.calls]


def _nats(margins: Sequence[float]) -> str:
    return ", ".join(f"{margin:.1e}" for margin in sorted(margins))
