"""A request for very many answers is refused, and those that wait cost the running ones nothing."""

import threading
import time
from collections.abc import Sequence

import pytest
from tests.serve.engine.fake_model import FakeModel, request

from tunesmith.errors import InvalidRequest
from tunesmith.graders.similarity import fuzzy_match, rouge_l
from tunesmith.render.prefix import common_prefix
from tunesmith.serve.chat.completion import CompletionRequest, _check_echoed, completion_request
from tunesmith.serve.engine.protocol import Generation
from tunesmith.serve.engine.scheduler import Scheduler
from tunesmith.wire.body import read
from tunesmith.wire.completions import CreateCompletion


def test_more_answers_than_fit_a_body_are_refused() -> None:
    assert len(read(CreateCompletion, {"model": "a", "prompt": ["a"] * 128, "n": 16}).prompt) == 128
    with pytest.raises(InvalidRequest, match="128 prompts with 17 choices each are 2176 answers"):
        read(CreateCompletion, {"model": "a", "prompt": ["a"] * 128, "n": 17})
    with pytest.raises(InvalidRequest, match="128 prompts with 20 choices each are 2560 answers"):
        read(CreateCompletion, {"model": "a", "prompt": ["a"] * 128, "best_of": 20})


def echoing(**fields: object) -> CompletionRequest:
    return completion_request(read(CreateCompletion, {"model": "a", "prompt": "a", "echo": True, **fields}))  # type: ignore[dict-item]


def test_echoes_are_bounded_by_what_all_choices_repeat() -> None:
    _check_echoed(echoing(n=16), 250_000, 1_000_000)
    with pytest.raises(InvalidRequest, match=r"1,000,001 characters .* repeated in 16 choices"):
        _check_echoed(echoing(n=16), 1, 1_000_001)
    with pytest.raises(InvalidRequest, match="250,000 tokens with log-probabilities"):
        _check_echoed(echoing(n=2, logprobs=1), 125_001, 1)


def test_thirty_thousand_waiting_choices_do_not_slow_a_step() -> None:
    scheduler = Scheduler(FakeModel(100_000), running=4, positions=100_000)
    waiting = [Generation(128) for _ in range(250)]
    for number, generation in enumerate(waiting):
        scheduler.add(request([1, 2, 3, number % 6 + 1], 1000, n=128), generation)
    scheduler.step()
    begun = time.process_time()
    for _ in range(20):
        scheduler.step()
    assert (time.process_time() - begun) / 20 < 0.002  # 8 ms with a look at each of them
    before = scheduler.waiting
    waiting[100].close()
    scheduler.step()
    assert scheduler.waiting == before - 1


def test_choices_of_a_prompt_that_is_being_read_are_compared_with_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []

    def counting(one: Sequence[int], other: Sequence[int]) -> int:
        compared.append(len(other))
        return common_prefix(one, other)

    monkeypatch.setattr("tunesmith.serve.engine.scheduler.common_prefix", counting)
    scheduler = Scheduler(FakeModel(100_000), running=4, positions=100_000)
    scheduler.add(request([number % 6 + 1 for number in range(6000)], 10, n=128), Generation(128))
    scheduler.step()
    assert len(compared) == 1  # 127 with each of the other choices


@pytest.mark.parametrize("metric", [fuzzy_match, rouge_l], ids=["fuzzy_match", "rouge_l"])
def test_comparing_long_texts_lets_other_threads_run(metric: object) -> None:
    text = " ".join(str(number) for number in range(40_000))[:99_000]
    if metric is rouge_l:
        text = "a b c d " * 12_000
    found: list[float] = []
    thread = threading.Thread(target=lambda: found.append(metric(text, text[::-1])))  # type: ignore[operator]
    turns = 0
    thread.start()
    while thread.is_alive():
        turns += 1
        time.sleep(0.001)
    assert turns >= 5  # none while the interpreter's lock is held
    assert 0.3 < found[0] <= 1
