"""Chunks of vLLM's stream as deltas, and what in them cannot be an answer to the request."""

from typing import Any

import pytest

from tunesmith.errors import ServerFault
from tunesmith.jsonvalue import JsonObject
from tunesmith.serve.engine.protocol import Delta, GenerateRequest
from tunesmith.serve.vllm.wire import SMALLEST_TOP_P, Chunk, ChunkReader, request_body

EOS = 2


def request(**fields: Any) -> GenerateRequest:
    return GenerateRequest(**{"prompt": (1, 7), "max_tokens": 4, "eos_ids": frozenset({EOS, 3}), **fields})


def chunk(tokens: list[int] | None, *, index: int = 0, finish: str | None = None, logprobs: Any = None) -> Chunk:
    value = {"index": index, "token_ids": tokens, "finish_reason": finish, "logprobs": logprobs}
    return Chunk.model_validate({"choices": [value]})


def read(asked: GenerateRequest, *chunks: Chunk) -> list[Delta]:
    reader = ChunkReader(asked)
    return [delta for each in chunks for delta in reader.read(each)]


def test_tokens_after_the_end_are_not_shown() -> None:
    deltas = read(request(), chunk([5, EOS, 9]), chunk([9, 9]))
    assert [(delta.token, delta.finish) for delta in deltas] == [(5, None), (EOS, "stop")]


def test_the_limit_counts_over_chunks() -> None:
    deltas = read(request(), chunk([5, 6, 7]), chunk([8, 9]))
    assert [(delta.token, delta.finish) for delta in deltas] == [(5, None), (6, None), (7, None), (8, "length")]


def test_choices_are_kept_apart() -> None:
    reader = ChunkReader(request(n=2))
    reader.read(chunk([5, EOS], index=1))
    assert (reader.finished(0), reader.finished(1)) == (False, True)
    assert [delta.choice for delta in reader.read(chunk([5]))] == [0]


def test_a_greedy_request_asks_once_and_copies_the_answer() -> None:
    asked = request(n=3, temperature=0.0)
    assert request_body(asked, "base")["n"] == 1
    deltas = read(asked, chunk([5]))
    assert [(delta.choice, delta.token) for delta in deltas] == [(0, 5), (1, 5), (2, 5)]
    reader = ChunkReader(asked)
    reader.read(chunk([EOS]))
    assert all(reader.finished(choice) for choice in range(3))


def test_a_server_that_ends_first_ends_the_answer() -> None:
    (last,) = read(request(), chunk([5], finish="length"))  # its context is smaller than ours
    assert (last.token, last.finish) == (5, "length")
    assert [delta.finish for delta in read(request(), chunk([5], finish="stop"))] == [None, "stop"]
    with pytest.raises(ServerFault, match=r"ended the answer early \('abort'\)"):
        read(request(), chunk([5], finish="abort"))
    with pytest.raises(ServerFault, match=r"ended the answer early \('stop'\)"):
        read(request(eos_ids=frozenset()), chunk([5], finish="stop"))  # there is no end token to show


@pytest.mark.parametrize(
    ("faulty", "asked", "words"),
    [
        (chunk(None), request(), "upgrade it to 0.10.2 or later"),
        (chunk([5], index=2), request(n=2), "sent choice 2 where 2 were asked for"),
        (chunk([5], index=-1), request(), "sent choice -1"),
        (chunk([5]), request(top_logprobs=0), r"log-probabilities () for 1 tokens"),
        (
            chunk([5, 6], logprobs={"token_logprobs": [-1.0], "top_logprobs": [{}, {}]}),
            request(top_logprobs=0),
            "log-probabilities (1, 2) for 2 tokens",
        ),
        (
            Chunk.model_validate({"error": {"message": "out of memory."}}),
            request(),
            "failed in mid-answer: out of memory.",
        ),
    ],
)
def test_what_cannot_be_an_answer_is_a_fault_that_says_so(faulty: Chunk, asked: GenerateRequest, words: str) -> None:
    with pytest.raises(ServerFault) as caught:
        read(asked, faulty)
    assert words in str(caught.value)


def test_log_probabilities_are_the_likeliest_by_id_with_vllms_extra_left_out() -> None:
    top = {
        "token_id:5": -3.0,
        "token_id:8": -0.1,
        "token_id:9": -0.2,
    }  # 5 was chosen, and is not among the two likeliest
    (delta,) = read(request(top_logprobs=2), chunk([5], logprobs={"token_logprobs": [-3.0], "top_logprobs": [top]}))
    assert (delta.logprob, delta.top) == (-3.0, ((8, -0.1), (9, -0.2)))
    (plain,) = read(request(top_logprobs=0), chunk([5], logprobs={"token_logprobs": [-3.0], "top_logprobs": [None]}))
    assert (plain.logprob, plain.top) == (-3.0, ())


def test_a_request_says_everything_that_the_server_would_fill_in() -> None:
    body = request_body(request(top_p=0.0, temperature=0.5, top_logprobs=3, project="proj_a"), "tunesmith-x")
    assert body["model"] == "tunesmith-x"
    assert body["top_p"] == SMALLEST_TOP_P
    assert body["stop_token_ids"] == [EOS, 3]
    assert (body["logprobs"], body["return_tokens_as_token_ids"]) == (3, True)
    assert (body["cache_salt"], body["ignore_eos"], body["stream"]) == ("proj_a", True, True)
    assert body["logit_bias"] is None
    assert "cache_salt" not in request_body(request(), "base")


def test_cached_tokens_are_read_where_the_server_counts_them() -> None:
    usage = {"prompt_tokens_details": {"cached_tokens": 7}}
    assert Chunk.model_validate({"usage": usage}).cached_tokens == 7
    values: list[JsonObject] = [{}, {"usage": {}}, {"usage": {"prompt_tokens_details": {"cached_tokens": None}}}]
    for value in values:
        assert Chunk.model_validate(value).cached_tokens == 0
