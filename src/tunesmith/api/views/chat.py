"""A chat reply as OpenAI's JSON: the completion object and the chunks of a stream, key for key in OpenAI's order."""

import time
from dataclasses import dataclass, field, replace

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.serve.chat.answer import CallDelta, Piece, TokenLogprob, Usage, random_id


@dataclass(frozen=True, slots=True)
class Head:
    """What every chunk of one answer repeats."""

    model: str
    fingerprint: str
    legacy_functions: bool
    logprobs: bool
    include_usage: bool = False
    id: str = field(default_factory=lambda: random_id("chatcmpl-", 29))
    created: int = field(default_factory=lambda: int(time.time()))


def completion(head: Head, pieces: list[Piece], usage: Usage, n: int) -> JsonObject:
    return {
        "id": head.id,
        "object": "chat.completion",
        "created": head.created,
        "model": head.model,
        "choices": [_choice(head, index, [piece for piece in pieces if piece.choice == index]) for index in range(n)],
        "usage": usage_json(usage),
        "service_tier": "default",
        "system_fingerprint": f"fp_{head.fingerprint}",
    }


def role_chunk(head: Head, choice: int) -> JsonObject:
    return _chunk(head, choice, {"role": "assistant", "content": "", "refusal": None}, [])


def piece_chunks(head: Head, piece: Piece) -> list[JsonObject]:
    """Text first, then what is new of tool calls, then the reason why it ended. Log-probabilities go with the first."""
    deltas: list[JsonObject] = [{"content": piece.text}] if piece.text or (piece.logprobs and not piece.calls) else []
    deltas += [_call_delta(head, call) for call in piece.calls]
    entries = [list(piece.logprobs)] + [[] for _ in deltas[1:]]
    chunks = [_chunk(head, piece.choice, delta, own) for delta, own in zip(deltas, entries, strict=False)]
    if piece.finish is not None:
        chunks.append(_chunk(head, piece.choice, {}, finish=piece.finish))
    return chunks


def usage_chunk(head: Head, usage: Usage) -> JsonObject:
    return {**_chunk_head(head), "choices": [], "usage": usage_json(usage)}


def usage_json(usage: Usage) -> JsonObject:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _choice(head: Head, index: int, pieces: list[Piece]) -> JsonObject:
    calls = _calls([call for piece in pieces for call in piece.calls])
    text = "".join(piece.text for piece in pieces)
    message: JsonObject = {"role": "assistant", "content": text if text or not calls else None}
    if calls and head.legacy_functions:
        message["function_call"] = {"name": calls[0].name, "arguments": calls[0].arguments}
    elif calls:
        message["tool_calls"] = [_call_json(call) for call in calls]
    message |= {"refusal": None, "annotations": []}
    return {
        "index": index,
        "message": message,
        "logprobs": _logprobs([entry for piece in pieces for entry in piece.logprobs]) if head.logprobs else None,
        "finish_reason": pieces[-1].finish if pieces else None,
    }


def _calls(deltas: list[CallDelta]) -> list[CallDelta]:
    """Each call whole."""
    opened = [delta for delta in deltas if delta.name is not None]
    arguments = ["".join(delta.arguments for delta in deltas if delta.index == call.index) for call in opened]
    return [replace(call, arguments=text) for call, text in zip(opened, arguments, strict=True)]


def _call_json(call: CallDelta) -> JsonObject:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _call_delta(head: Head, call: CallDelta) -> JsonObject:
    """The name comes first, with no arguments; then their pieces, without the name."""
    if head.legacy_functions:
        named: JsonObject = {} if call.name is None else {"name": call.name}
        return {"function_call": {**named, "arguments": call.arguments}}
    if call.name is not None:
        return {"tool_calls": [{"index": call.index, **_call_json(call)}]}
    return {"tool_calls": [{"index": call.index, "function": {"arguments": call.arguments}}]}


def _chunk(
    head: Head,
    choice: int,
    delta: JsonObject,
    logprobs: list[TokenLogprob] | None = None,
    finish: str | None = None,
) -> JsonObject:
    chosen: JsonObject = {
        "index": choice,
        "delta": delta,
        "logprobs": _logprobs(logprobs) if head.logprobs and logprobs is not None else None,
        "finish_reason": finish,
    }
    chunk: JsonObject = {**_chunk_head(head), "choices": [chosen]}
    if head.include_usage:
        chunk["usage"] = None
    return chunk


def _chunk_head(head: Head) -> JsonObject:
    return {
        "id": head.id,
        "object": "chat.completion.chunk",
        "created": head.created,
        "model": head.model,
        "service_tier": "default",
        "system_fingerprint": f"fp_{head.fingerprint}",
    }


def _logprobs(entries: list[TokenLogprob]) -> JsonObject:
    return {"content": [{**_entry(entry), "top_logprobs": _top(entry)} for entry in entries], "refusal": None}


def _top(entry: TokenLogprob) -> list[JsonValue]:
    return [_entry(other) for other in entry.top]


def _entry(entry: TokenLogprob) -> JsonObject:
    return {"token": entry.token, "logprob": entry.logprob, "bytes": list(entry.bytes)}
