import math
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from numpy import float32, zeros
from numpy.typing import NDArray
from peft import PeftModel
from transformers import AutoModelForCausalLM, PreTrainedModel

from tunesmith.errors import InvalidRequest, ServerFault, ServiceUnavailable
from tunesmith.render.renderer import Renderer
from tunesmith.rows.messages import Message
from tunesmith.serve.engine.model import SequenceChunk
from tunesmith.serve.engine.prompt_lookup import NgramIndex
from tunesmith.serve.engine.protocol import Delta, Engine, GenerateRequest
from tunesmith.serve.engine.scheduler import PREFILL_CHUNK_SCORED
from tunesmith.serve.local.engine import EngineOptions, LocalEngine
from tunesmith.serve.local.model import LocalModel
from tunesmith.serve.local.runner import AnyAdapter

QUESTIONS = ("What is the capital of France?", "今年武汉的冬天冷不冷?", "Write a haiku about rain in 1999.")


def tokens(deltas: list[Delta], choice: int = 0) -> list[int]:
    return [delta.token for delta in deltas if delta.choice == choice]


def plain_generate(model: PreTrainedModel, prompt: list[int], count: int, renderer: Renderer) -> list[int]:
    ids = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=count,
        do_sample=False,
        eos_token_id=sorted(renderer.eos_ids),
        pad_token_id=0,
    )
    return ids[0, len(prompt) :].tolist()


def greedy(prompt: list[int] | tuple[int, ...], count: int, renderer: Renderer) -> GenerateRequest:
    return GenerateRequest(tuple(prompt), count, renderer.eos_ids, temperature=0)


@pytest.fixture(scope="module")
def tuned_reference(base_dir: Path, adapter_dir: Path) -> PeftModel:
    base = AutoModelForCausalLM.from_pretrained(base_dir, dtype=torch.float32)
    return PeftModel.from_pretrained(base, adapter_dir).eval()


def test_greedy_tokens_of_the_base_equal_transformers(
    engine: Engine, reference: PreTrainedModel, renderer: Renderer
) -> None:
    for question in QUESTIONS:
        prompt = renderer.prompt([Message("user", question)])
        ours = tokens(list(engine.submit(greedy(prompt, 12, renderer))))
        assert ours == plain_generate(reference, prompt, 12, renderer)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # peft calls a name that transformers will drop
def test_greedy_tokens_of_an_adapter_equal_peft_and_differ_from_the_base(
    engine: Engine, tuned_reference: PeftModel, adapter_dir: Path, renderer: Renderer
) -> None:
    for question in QUESTIONS:
        prompt = renderer.prompt([Message("user", question)])
        request = greedy(prompt, 10, renderer)
        ours = tokens(list(engine.submit(replace(request, adapter=adapter_dir))))
        assert ours == plain_generate(tuned_reference, prompt, 10, renderer)
        assert ours != tokens(list(engine.submit(request)))


def test_base_and_adapter_at_the_same_time_do_not_disturb_each_other(
    engine: Engine, adapter_dir: Path, prompt: tuple[int, ...], renderer: Renderer
) -> None:
    base, tuned = greedy(prompt, 8, renderer), replace(greedy(prompt, 8, renderer), adapter=adapter_dir)
    alone = [tokens(list(engine.submit(request))) for request in (base, tuned)]
    under_way = [engine.submit(request) for request in (base, tuned)]
    assert [tokens(list(generation)) for generation in under_way] == alone


def test_a_seed_repeats_itself_and_another_seed_differs(
    engine: Engine, prompt: tuple[int, ...], renderer: Renderer
) -> None:
    request = GenerateRequest(prompt, 12, renderer.eos_ids, temperature=1.2, top_p=0.95, seed=7)
    first, again = (tokens(list(engine.submit(request))) for _ in range(2))
    assert first == again
    assert first != tokens(list(engine.submit(replace(request, seed=8))))


def test_choices_are_the_same_alone_and_beside_others(
    engine: Engine, prompt: tuple[int, ...], renderer: Renderer
) -> None:
    request = GenerateRequest(prompt, 6, renderer.eos_ids, temperature=1.0, seed=3, n=10)
    many = list(engine.submit(request))
    choices = [tokens(many, choice) for choice in range(10)]
    assert len({tuple(choice) for choice in choices}) > 5
    assert choices[0] == tokens(list(engine.submit(replace(request, n=1))))
    assert sum(delta.finish is not None for delta in many) == 10


def test_greedy_choices_are_equal(engine: Engine, prompt: tuple[int, ...], renderer: Renderer) -> None:
    deltas = list(engine.submit(replace(greedy(prompt, 6, renderer), n=2)))
    assert tokens(deltas, 0) == tokens(deltas, 1) == tokens(list(engine.submit(greedy(prompt, 6, renderer))))


def test_the_token_that_ends_a_turn_finishes_with_stop(engine: Engine, renderer: Renderer) -> None:
    prompt = renderer.prompt([Message("user", "What is the capital of France?")])
    deltas = list(engine.submit(greedy(prompt, 40, renderer)))
    assert deltas[-1].token in renderer.eos_ids
    assert [delta.finish for delta in deltas] == [None] * (len(deltas) - 1) + ["stop"]


def test_max_tokens_finishes_with_length(engine: Engine, prompt: tuple[int, ...], renderer: Renderer) -> None:
    assert [delta.finish for delta in engine.submit(greedy(prompt, 2, renderer))] == [None, "length"]


def test_logprobs_are_those_of_the_reference(
    engine: Engine, reference: PreTrainedModel, prompt: tuple[int, ...], renderer: Renderer
) -> None:
    request = replace(greedy(prompt, 3, renderer), top_logprobs=20, temperature=0.0)
    deltas = list(engine.submit(request))
    with torch.inference_mode():
        logits = reference(torch.tensor([[*prompt, *tokens(deltas)]])).logits[0, len(prompt) - 1 : -1]
    expected = torch.log_softmax(logits, dim=-1)
    for position, delta in enumerate(deltas):
        assert delta.logprob == pytest.approx(float(expected[position, delta.token]), abs=1e-3)
        assert delta.top[0] == (delta.token, delta.logprob)
        assert sum(math.exp(logprob) for _, logprob in delta.top) <= 1.0001
        assert [logprob for _, logprob in delta.top] == sorted((logprob for _, logprob in delta.top), reverse=True)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # peft calls a name that transformers will drop
@pytest.mark.parametrize("tuned", [False, True])
def test_a_prompts_logprobs_are_those_of_the_reference(
    engine: Engine,
    reference: PreTrainedModel,
    tuned_reference: PeftModel,
    renderer: Renderer,
    adapter_dir: Path,
    tuned: bool,
) -> None:
    prompt = renderer.text_prompt("The rain in Spain stays mainly in the plain, said 老师. " * 9)
    assert len(prompt) > 2 * PREFILL_CHUNK_SCORED
    model, within = (tuned_reference, 1e-3) if tuned else (reference, 1e-4)  # the random adapter's logits are larger
    request = replace(greedy(tuple(prompt), 0, renderer), top_logprobs=2, prompt_logprobs=True)
    generation = engine.submit(replace(request, adapter=adapter_dir if tuned else None))
    assert list(generation) == []
    with torch.inference_mode():
        expected = torch.log_softmax(model(torch.tensor([prompt])).logits[0, :-1], dim=-1)
    assert [delta.token for delta in generation.prompt] == prompt[1:]
    for position, delta in enumerate(generation.prompt):
        assert delta.logprob == pytest.approx(float(expected[position, delta.token]), abs=within)
        assert [logprob for _, logprob in delta.top] == pytest.approx(expected[position].topk(2).values, abs=within)


def test_a_bias_forces_and_bans_tokens(engine: Engine, prompt: tuple[int, ...], renderer: Renderer) -> None:
    free = greedy(prompt, 1, renderer)
    first = tokens(list(engine.submit(free)))[0]
    assert tokens(list(engine.submit(replace(free, logit_bias=((first, -100.0),)))))[0] != first
    assert tokens(list(engine.submit(replace(free, logit_bias=((1234, 100.0),)))))[0] == 1234


def test_a_long_prompt_in_pieces_equals_transformers(
    engine: Engine, reference: PreTrainedModel, renderer: Renderer
) -> None:
    prompt = renderer.prompt([Message("user", "The rain in Spain stays mainly in the plain. " * 60 + "Continue.")])
    assert len(prompt) > 600
    assert tokens(list(engine.submit(greedy(prompt, 3, renderer)))) == plain_generate(reference, prompt, 3, renderer)


def test_the_cache_holds_a_prompt_for_its_own_model_and_project_and_changes_no_token(
    engine: Engine, adapter_dir: Path, renderer: Renderer
) -> None:
    prompt = renderer.prompt([Message("user", "Tell me of the sea, of rain and of a harbour. " * 4)])
    request = replace(greedy(prompt, 4, renderer), project="one")
    first, again = engine.submit(request), engine.submit(request)
    assert tokens(list(first)) == tokens(list(again))
    assert (first.cached_tokens, again.cached_tokens) == (0, len(prompt) - 1)
    for other in (replace(request, adapter=adapter_dir), replace(request, project="two")):
        generation = engine.submit(other)
        list(generation)
        assert generation.cached_tokens == 0


def test_closing_stops_the_generation(engine: Engine, prompt: tuple[int, ...], renderer: Renderer) -> None:
    never_ending = GenerateRequest(prompt, 4000, frozenset(), temperature=0)
    generation = engine.submit(never_ending)
    assert next(iter(generation)).choice == 0
    generation.close()
    started = time.monotonic()
    list(engine.submit(greedy(prompt, 1, renderer)))
    assert time.monotonic() - started < 10
    assert generation.closed


def test_a_stopped_choice_ends_and_the_others_go_on(
    engine: Engine, prompt: tuple[int, ...], renderer: Renderer
) -> None:
    generation = engine.submit(GenerateRequest(prompt, 12, frozenset(), temperature=0, n=2))
    generation.stop(0)
    deltas = list(generation)
    assert len(tokens(deltas, 0)) < 12
    assert len(tokens(deltas, 1)) == 12


def test_a_short_request_is_not_held_up_by_a_long_one(
    engine: Engine, prompt: tuple[int, ...], renderer: Renderer
) -> None:
    long = engine.submit(GenerateRequest(prompt, 4000, frozenset(), temperature=0))
    assert len(list(engine.submit(greedy(prompt, 2, renderer)))) == 2
    assert not long.closed
    long.close()


def test_an_adapter_that_is_not_there_fails_its_own_request_only(
    engine: Engine, prompt: tuple[int, ...], renderer: Renderer, tmp_path: Path
) -> None:
    with pytest.raises((ServerFault, FileNotFoundError)):
        list(engine.submit(replace(greedy(prompt, 2, renderer), adapter=tmp_path)))
    assert len(list(engine.submit(greedy(prompt, 2, renderer)))) == 2


def test_a_token_that_the_weights_do_not_know_is_refused(
    engine: Engine, prompt: tuple[int, ...], renderer: Renderer
) -> None:
    known = renderer.vocab_size
    for request in (
        greedy((*prompt, known), 2, renderer),
        replace(greedy(prompt, 2, renderer), logit_bias=((known, 1.0),)),
    ):
        with pytest.raises(InvalidRequest, match=f"Token {known} .* know the tokens 0 to {known - 1}"):
            engine.submit(request)
    assert len(list(engine.submit(greedy((*prompt, known - 1), 2, renderer)))) > 0


class SlowRunner:
    """A runner whose forward pass waits until it is let go."""

    context_length = 100
    vocabulary = 1000
    token_bytes = 1
    rewinds = True

    def __init__(self) -> None:
        self.gate = threading.Event()

    def read_adapter(self, directory: Path) -> AnyAdapter:
        raise AssertionError(directory)

    def forward(self, chunks: Sequence[SequenceChunk[AnyAdapter]], threads: int = 1) -> NDArray[float32]:
        assert self.gate.wait(10)
        return zeros((sum(chunk.logits for chunk in chunks), 16), float32)

    def copy(self, source: int, target: int, length: int) -> None: ...

    def clear(self, slot: int) -> None: ...


def slow_engine(runner: SlowRunner, running: int, waiting: int, cache_bytes: int = 1000) -> LocalEngine:
    options = EngineOptions(threads=1, running=running, waiting=waiting, adapter_bytes=0, cache_bytes=cache_bytes)
    return LocalEngine(runner, options, fingerprint="x")


def test_requests_wait_until_their_keys_and_values_have_room() -> None:
    runner = SlowRunner()
    engine = slow_engine(runner, running=8, waiting=8, cache_bytes=12)
    request = GenerateRequest((1, 2), 7, frozenset(), temperature=0)  # up to 9 positions
    accepted = [engine.submit(request) for _ in range(4)]
    while engine.waiting > 2:
        time.sleep(0.01)
    time.sleep(0.05)
    assert engine.waiting == 2
    accepted.append(engine.submit(GenerateRequest((1,) * 50, 7, frozenset(), temperature=0)))
    runner.gate.set()
    assert [len(list(generation)) for generation in accepted] == [7] * 5
    engine.close()


def test_a_project_that_fills_its_queue_leaves_others_theirs() -> None:
    runner = SlowRunner()
    engine = slow_engine(runner, running=1, waiting=2)
    request = GenerateRequest((1,), 2, frozenset(), temperature=0, project="one")
    accepted = [engine.submit(request)]
    while engine.waiting:
        time.sleep(0.01)
    accepted += [engine.submit(request) for _ in range(2)]
    with pytest.raises(ServiceUnavailable, match="2 requests are already waiting"):
        engine.submit(request)
    accepted.append(engine.submit(replace(request, project="other")))
    runner.gate.set()
    assert [len(list(generation)) for generation in accepted] == [2] * 4
    engine.close()


def test_clients_that_went_away_do_not_fill_the_queue() -> None:
    runner = SlowRunner()
    engine = slow_engine(runner, running=1, waiting=2)
    request = GenerateRequest((1,), 2, frozenset(), temperature=0)
    first = engine.submit(request)
    while engine.waiting:
        time.sleep(0.01)
    for _ in range(2):
        engine.submit(request).close()
    last = engine.submit(request)
    runner.gate.set()
    assert [len(list(first)), len(list(last))] == [2, 2]
    engine.close()


def test_a_full_queue_is_refused_and_a_closed_engine_finishes_what_it_took() -> None:
    runner = SlowRunner()
    engine = slow_engine(runner, running=1, waiting=2)
    request = GenerateRequest((1,), 2, frozenset(), temperature=0)
    first = engine.submit(request)
    while engine.waiting:
        time.sleep(0.01)
    accepted = [first, engine.submit(request), engine.submit(request)]
    with pytest.raises(ServiceUnavailable, match="2 requests are already waiting"):
        engine.submit(request)
    engine.close()
    with pytest.raises(ServiceUnavailable, match="unloaded"):
        engine.submit(request)
    runner.gate.set()
    assert [len(list(generation)) for generation in accepted] == [2, 2, 2]
    engine.join(10)
    assert not engine.alive


def test_drafts_come_from_the_book_and_can_be_switched_off() -> None:
    request = GenerateRequest((1, 2), 8, frozenset())
    drafter = LocalModel(SlowRunner(), 0, NgramIndex([[1, 2, 3, 4]]), threads=1).drafter(request)
    assert drafter is not None
    assert drafter.draft([1, 2], running=1) == [3, 4]
    assert LocalModel(SlowRunner(), 0, NgramIndex([[1, 2, 3, 4]]), threads=1, drafts=False).drafter(request) is None
