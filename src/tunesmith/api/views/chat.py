"""A chat reply as OpenAI's JSON: the completion, and the chunks of a stream.

Keys are in OpenAI's order.
"""

import time
from dataclasses import dataclass, field, replace

from tunesmith.serve.chat.answer import CallDelta, Piece, TokenLogprob, Usage, random_id
from tunesmith.wire import tools
from tunesmith.wire.chat import answers


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


def completion(head: Head, pieces: list[Piece], usage: Usage, n: int) -> answers.Completion:
    """The whole answer. `pieces`: of all `n` choices, in the order in which they came."""
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


def role_chunk(head: Head, choice: int) -> answers.Chunk:
    """The first chunk of a choice."""
    return _chunk(head, choice, {"role": "assistant", "content": "", "refusal": None}, [])


def piece_chunks(head: Head, piece: Piece) -> list[answers.Chunk]:
    """The chunks of one piece: text, then tool calls, then why it ended.

    Log-probabilities go with the first chunk.
    """
    deltas: list[answers.Delta] = [{"reasoning_content": piece.reasoning}] if piece.reasoning else []
    if piece.text or (piece.logprobs and not piece.calls and not deltas):
        deltas.append({"content": piece.text})
    deltas += [_call_delta(head, call) for call in piece.calls]
    entries = [list(piece.logprobs)] + [[] for _ in deltas[1:]]
    chunks = [_chunk(head, piece.choice, delta, own) for delta, own in zip(deltas, entries, strict=False)]
    if piece.finish is not None:
        chunks.append(_chunk(head, piece.choice, {}, finish=piece.finish))
    return chunks


def usage_chunk(head: Head, usage: Usage) -> answers.Chunk:
    """The last chunk, where usage was asked for."""
    chunk = _chunk_of(head, [])
    chunk["usage"] = usage_json(usage)
    return chunk


def usage_json(usage: Usage) -> answers.TokenUsage:
    """OpenAI's names; what there is not here, such as audio, is 0."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _choice(head: Head, index: int, pieces: list[Piece]) -> answers.Choice:
    calls = _calls([call for piece in pieces for call in piece.calls])
    text = "".join(piece.text for piece in pieces)
    return {
        "index": index,
        "message": {
            "role": "assistant",
            "content": text if text or not calls else None,
            **_reasoned(pieces),
            **_called(head, calls),
            "refusal": None,
            "annotations": [],
        },
        "logprobs": _logprobs([entry for piece in pieces for entry in piece.logprobs]) if head.logprobs else None,
        "finish_reason": pieces[-1].finish if pieces else None,
    }


def _reasoned(pieces: list[Piece]) -> answers.Reasoned:
    reasoning = "".join(piece.reasoning for piece in pieces)
    return {"reasoning_content": reasoning} if reasoning else {}


def _called(head: Head, calls: list[CallDelta]) -> tools.Called:
    if calls and head.legacy_functions:
        return {"function_call": _function(calls[0])}
    if calls:
        return {
            "tool_calls": [{"id": call.id or "", "type": "function", "function": _function(call)} for call in calls]
        }
    return {}


def _tool_call(call: CallDelta) -> tools.ToolCall:
    return {"id": call.id or "", "type": "function", "function": _function(call)}


def _function(call: CallDelta) -> tools.CalledFunction:
    return {"name": call.name or "", "arguments": call.arguments}


def _calls(deltas: list[CallDelta]) -> list[CallDelta]:
    """Each call whole."""
    opened = [delta for delta in deltas if delta.name is not None]
    arguments = ["".join(delta.arguments for delta in deltas if delta.index == call.index) for call in opened]
    return [replace(call, arguments=text) for call, text in zip(opened, arguments, strict=True)]


def _call_delta(head: Head, call: CallDelta) -> answers.Delta:
    """The name comes first, with no arguments; then their pieces, without the name."""
    function: tools.FunctionDelta = {"arguments": call.arguments}
    if call.name is not None:
        function = {"name": call.name, "arguments": call.arguments}
    if head.legacy_functions:
        return {"function_call": function}
    if call.name is not None:
        return {"tool_calls": [{"index": call.index, "id": call.id, "type": "function", "function": function}]}
    return {"tool_calls": [{"index": call.index, "function": function}]}


def _chunk(
    head: Head,
    choice: int,
    delta: answers.Delta,
    logprobs: list[TokenLogprob] | None = None,
    finish: answers.FinishReason | None = None,
) -> answers.Chunk:
    shown = _logprobs(logprobs) if head.logprobs and logprobs is not None else None
    return _chunk_of(head, [{"index": choice, "delta": delta, "logprobs": shown, "finish_reason": finish}])


def _chunk_of(head: Head, choices: list[answers.ChunkChoice]) -> answers.Chunk:
    chunk: answers.Chunk = {
        "id": head.id,
        "object": "chat.completion.chunk",
        "created": head.created,
        "model": head.model,
        "service_tier": "default",
        "system_fingerprint": f"fp_{head.fingerprint}",
        "choices": choices,
    }
    if head.include_usage:
        chunk["usage"] = None
    return chunk


def _logprobs(entries: list[TokenLogprob]) -> answers.Logprobs:
    return {"content": [{**_entry(entry), "top_logprobs": _top(entry)} for entry in entries], "refusal": None}


def _top(entry: TokenLogprob) -> list[answers.TokenLogprob]:
    return [_entry(other) for other in entry.top]


def _entry(entry: TokenLogprob) -> answers.TokenLogprob:
    return {"token": entry.token, "logprob": entry.logprob, "bytes": list(entry.bytes)}
