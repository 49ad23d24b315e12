"""Chunks of vLLM's stream as deltas, and what in them cannot be an answer to the request."""

from dataclasses import dataclass, fields
from typing import Any

import pytest

from tunesmith.errors import ServerFault
from tunesmith.jsonvalue import JsonObject
from tunesmith.serve.engine.protocol import Delta, GenerateRequest, Matcher
from tunesmith.serve.vllm.wire import SMALLEST_TOP_P, Chunk, ChunkReader, request_body

EOS = 2


@dataclass(frozen=True)
class Plain:
    """A grammar that is only sent."""

    text: str

    def start(self) -> Matcher:
        raise AssertionError("not here")


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
    with pytest.raises(ServerFault, match=r"ended the answer early\..*\(abort\)"):
        read(request(), chunk([5], finish="abort"))
    with pytest.raises(ServerFault, match=r"ended the answer early\..*\(stop\)"):
        read(request(eos_ids=frozenset()), chunk([5], finish="stop"))  # there is no end token to show


@pytest.mark.parametrize(
    ("faulty", "asked", "words"),
    [
        (chunk(None), request(), "upgrade it to 0.12 or later"),
        (chunk([5], index=2), request(n=2), "sent choice 2 where 2 were asked for"),
        (chunk([5], index=-1), request(), "sent choice -1"),
        (chunk([5]), request(top_logprobs=0), "tokens without their log-probabilities"),
        (
            chunk([5, 6], logprobs={"token_logprobs": [-1.0], "top_logprobs": [{}, {}]}),
            request(top_logprobs=0),
            "tokens without their log-probabilities",
        ),
        (
            chunk([5, 6], logprobs={"token_logprobs": [-1.0], "top_logprobs": [{}]}),
            request(top_logprobs=0),
            "log-probabilities of 1 tokens for 2",
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


OTHER: dict[str, Any] = {
    "prompt": (1, 8),
    "max_tokens": 5,
    "eos_ids": frozenset({EOS}),
    "n": 2,
    "temperature": 0.5,
    "top_p": 0.5,
    "seed": 7,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.5,
    "logit_bias": ((5, 1.0),),
    "top_logprobs": 1,
    "prompt_logprobs": True,
    "project": "p",
    "grammar": Plain("x"),
}


@pytest.mark.parametrize("name", OTHER)
def test_every_field_of_a_request_reaches_vllm(name: str) -> None:
    assert request_body(request(**{name: OTHER[name]}), "base") != request_body(request(), "base")


def test_no_field_of_a_request_is_ignored() -> None:
    """An adapter is the model's name there; nothing there knows of a background."""
    assert {field.name for field in fields(GenerateRequest)} == {*OTHER, "adapter", "background"}


def test_cached_tokens_are_read_where_the_server_counts_them() -> None:
    usage = {"prompt_tokens_details": {"cached_tokens": 7}}
    assert Chunk.model_validate({"usage": usage}).cached_tokens == 7
    values: list[JsonObject] = [{}, {"usage": {}}, {"usage": {"prompt_tokens_details": {"cached_tokens": None}}}]
    for value in values:
        assert Chunk.model_validate(value).cached_tokens == 0


def logprobs(*values: float | None) -> Any:
    return {
        "token_logprobs": [*values],
        "top_logprobs": [None if one is None else {"token_id:9": one} for one in values],
    }


def test_the_prompts_log_probabilities_come_before_the_first_tokens() -> None:
    asked = request(prompt=(1, 7, 8), top_logprobs=1, prompt_logprobs=True)
    body = request_body(asked, "base")
    assert (body["echo"], body["logprobs"], body["max_tokens"]) == (True, 1, 4)
    reader = ChunkReader(asked)
    first = reader.read(chunk([5], logprobs=logprobs(None, -0.7, -0.8, -0.5)))
    rest = reader.read(chunk([6], logprobs=logprobs(-0.6)))
    assert reader.prompt == [Delta(0, 7, -0.7, ((9, -0.7),)), Delta(0, 8, -0.8, ((9, -0.8),))]
    assert [(delta.token, delta.logprob) for delta in (*first, *rest)] == [(5, -0.5), (6, -0.6)]


def test_of_a_prompt_alone_the_token_that_vllm_makes_is_not_shown() -> None:
    reader = ChunkReader(
        request(prompt=(1, 7, 8), max_tokens=0, n=2, temperature=0.0, top_logprobs=0, prompt_logprobs=True)
    )
    assert reader.read(chunk([5], finish="length", logprobs=logprobs(None, -0.7, -0.8))) == []
    assert [(delta.token, delta.logprob, delta.top) for delta in reader.prompt] == [(7, -0.7, ()), (8, -0.8, ())]
    assert (reader.finished(0), reader.finished(1)) == (True, True)


def test_grammar_is_sent_as_it_is() -> None:
    assert request_body(request(grammar=Plain("x")), "base")["structured_outputs"] == {"grammar": "x"}
    assert "structured_outputs" not in request_body(request(), "base")
