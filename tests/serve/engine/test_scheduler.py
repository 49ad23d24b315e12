"""The scheduler with a model that is a function of the tokens: whatever runs beside it, a request gets its own."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.serve.engine.fake_model import (
    EOS,
    WORDS,
    FakeModel,
    Row,
    alone,
    finish,
    following,
    request,
    run,
    until_first_token,
)

from tunesmith.serve.engine.model import SequenceChunk
from tunesmith.serve.engine.protocol import GenerateRequest, Generation
from tunesmith.serve.engine.scheduler import (
    PREFILL_CHUNK_SCORED,
    Scheduler,
)

tokens = st.integers(1, WORDS - 1)
prompts = st.builds(
    lambda common, own: (*common, *own),
    st.sampled_from([(), tuple([1, 2, 3, 4, 5, 6] * 14), tuple([3, 1, 2] * 40)]),
    st.lists(tokens, min_size=1, max_size=40),
)


def read_only(request: GenerateRequest) -> GenerateRequest:
    return replace(request, max_tokens=0, prompt_logprobs=len(request.prompt) > 1)


generating = st.builds(
    GenerateRequest,
    prompt=prompts,
    max_tokens=st.integers(1, 40),
    eos_ids=st.sampled_from([frozenset(), frozenset({EOS})]),
    n=st.integers(1, 4),
    adapter=st.sampled_from([None, None, Path("one"), Path("two"), Path("broken")]),
    project=st.sampled_from(["", "other", "third"]),
    prompt_logprobs=st.booleans(),
)
generating = generating.map(lambda one: replace(one, background=one.project == "third"))
requests = st.one_of(generating, generating.map(read_only).filter(lambda request: request.prompt_logprobs))


@settings(max_examples=120, deadline=None)
@given(
    arrivals=st.lists(st.tuples(st.integers(0, 12), requests), min_size=1, max_size=10),
    running=st.integers(1, 5),
    positions=st.sampled_from([60, 300, 5000]),
    reusable=st.booleans(),
    closed=st.sets(st.integers(0, 9), max_size=3),
)
def test_every_request_ends_with_the_tokens_it_would_get_alone(
    arrivals: list[tuple[int, GenerateRequest]], running: int, positions: int, reusable: bool, closed: set[int]
) -> None:
    model = FakeModel(positions)
    scheduler = Scheduler(model, running=running, positions=positions, slots=2 * running, reusable=reusable)
    readers = [(request, Generation(request.n)) for _, request in arrivals]
    work = sum(request.n * (len(request.prompt) + request.max_tokens + 1) for _, request in arrivals)
    step = 0
    while step == 0 or scheduler.busy or step <= 12:
        for place, (when, _) in enumerate(arrivals):
            if when == step:
                scheduler.add(*readers[place])
            if place in closed and step == when + 3:
                readers[place][1].close()
        scheduler.step()
        step += 1
        assert step <= 13 + 4 * work  # bounded, with what is read again after making room
    assert scheduler.waiting == 0
    for place, (asked, generation) in enumerate(readers):
        if place in closed:
            continue
        if asked.adapter == Path("broken"):
            assert isinstance(failure(generation), FileNotFoundError)
            continue
        deltas = list(generation)
        expected = alone(asked)
        for choice in range(asked.n):
            made = [delta for delta in deltas if delta.choice == choice]
            assert [delta.token for delta in made] == expected
            assert [delta.finish for delta in made[:-1]] == [None] * max(0, len(expected) - 1)
            assert not made or made[-1].finish == ("stop" if expected[-1] in asked.eos_ids else "length")
        assert [(one.token, one.logprob, one.top) for one in generation.prompt] == scores(asked)


def scores(request: GenerateRequest) -> list[tuple[int, float, tuple[tuple[int, float], ...]]]:
    """What the prompt's own tokens must be said to be, from the second on."""
    prompt, adapter = request.prompt, None if request.adapter is None else str(request.adapter)
    places = range(1, len(prompt)) if request.prompt_logprobs else ()
    return [(prompt[place], -float(place), ((following(prompt[:place], adapter), 0.0),)) for place in places]


def failure(generation: Generation) -> BaseException | None:
    try:
        list(generation)
    except Exception as error:
        return error
    return None


def test_a_shared_prompt_is_read_once_for_all_choices_and_requests() -> None:
    scheduler = Scheduler(FakeModel(5000), running=8, positions=5000, slots=16)
    prompt = [1, 2, 3, 4, 5, 6] * 50
    first, second = run(scheduler, request(prompt, n=4), request([*prompt, 1]))
    assert first.cached_tokens == 0
    assert second.cached_tokens == len(prompt)


def test_drafts_make_fewer_passes_and_the_same_tokens() -> None:
    plain, drafting = FakeModel(5000), FakeModel(5000)
    plain.drafter = lambda request: None  # type: ignore[method-assign, assignment, return-value]
    wanted = request([1, 2, 3], 120)
    texts = [[delta.token for delta in run(Scheduler(model, running=2, positions=5000), wanted)[0]]
             for model in (plain, drafting)]  # fmt: skip
    assert texts[0] == texts[1]
    assert drafting.passes < 0.9 * plain.passes


def test_a_scored_prompt_goes_through_in_pieces_whose_logits_are_few() -> None:
    class Counting(FakeModel):
        most = 0

        def forward(self, chunks: Sequence[SequenceChunk[str]]) -> list[Row]:
            self.most = max(self.most, sum(chunk.logits for chunk in chunks))
            return super().forward(chunks)

    model = Counting(5000)
    long = [1, 2, 3, 4, 5, 6] * 50
    wanted = [request(long, 0, prompt_logprobs=True), request([*long, 1], 4, prompt_logprobs=True, n=2)]
    plain, *scored = run(Scheduler(model, running=8, positions=5000), request([2, 2], 30), *wanted)
    assert [delta.token for delta in plain] == alone(request([2, 2], 30))
    assert [len(one.prompt) for one in scored] == [len(long) - 1, len(long)]
    assert [len(list(one)) for one in scored] == [0, 8]
    assert model.most <= PREFILL_CHUNK_SCORED + 8 * 8  # the pieces, and each answer's own token with its drafts


def test_projects_take_turns() -> None:
    scheduler = Scheduler(FakeModel(5000), running=1, positions=5000)
    generations = [Generation(1) for _ in range(5)]
    for generation, project in zip(generations, ("a", "a", "a", "a", "b"), strict=True):
        scheduler.add(request([1, 2, 3], 2, project=project), generation)
    for _ in range(4):  # two requests of two tokens each
        scheduler.step()
    assert [generation._ended for generation in generations] == [True, False, False, False, True]


def test_a_fault_in_one_sequence_does_not_touch_its_neighbours() -> None:
    class Fragile(FakeModel):
        def forward(self, chunks: Sequence[SequenceChunk[str]]) -> list[Row]:
            if any(5 in chunk.ids for chunk in chunks):
                raise RuntimeError("five")
            return super().forward(chunks)

    bad, good = run(Scheduler(Fragile(5000), running=2, positions=5000), request([5, 5]), request([2, 2], 1))
    assert str(failure(bad)) == "five"
    assert [delta.token for delta in good] == alone(request([2, 2], 1))


@settings(max_examples=15, deadline=None)
@given(
    running=st.integers(1, 6),  # with one slot, a slice of the long answer comes first
    positions=st.sampled_from([900, 5000, 100_000]),
    reusable=st.booleans(),
    n=st.integers(6, 16),
    length=st.integers(1, 60),
)
def test_another_projects_short_answer_does_not_wait_for_a_projects_long_ones(
    running: int, positions: int, reusable: bool, n: int, length: int
) -> None:
    scheduler = Scheduler(FakeModel(positions), running=running, positions=positions, slots=2 * running,
                          reusable=reusable)  # fmt: skip
    greedy, readers = request([1, 2, 3] * length, 400, n=n, project="greedy"), [Generation(n)]
    scheduler.add(greedy, readers[0])
    for _ in range(150):
        scheduler.step()
    for _ in range(3):
        short, reader = request([4, 5, 6], 2, project="short"), Generation(1)
        scheduler.add(short, reader)
        assert until_first_token(scheduler, reader) <= (2 if running > 1 else 70 + (3 * length + 400) // 4)
        assert [delta.token for delta in finish(scheduler, reader)] == alone(short)
    whole = finish(scheduler, readers[0])
    for choice in range(n):
        assert [delta.token for delta in whole if delta.choice == choice] == alone(greedy)


def test_projects_that_want_everything_get_equal_parts_of_the_slots() -> None:
    scheduler = Scheduler(FakeModel(100_000), running=6, positions=100_000)
    readers = []
    for project in ("a", "b", "c"):
        readers.append(Generation(12))
        scheduler.add(request([1, 2, 3], 300, n=12, project=project), readers[-1])
        for _ in range(20):
            scheduler.step()
    held = [sequence.project for sequence in scheduler._running]
    assert {project: held.count(project) for project in "abc"} == {"a": 2, "b": 2, "c": 2}


def test_more_projects_than_slots_take_turns_at_them() -> None:
    scheduler = Scheduler(FakeModel(100_000), running=2, positions=100_000)
    readers = [Generation(1) for _ in range(5)]
    for number, reader in enumerate(readers):
        scheduler.add(request([1, 2, 3], 400, project=str(number)), reader)
    for _ in range(250):
        scheduler.step()
    made = [len(reader._items) for reader in readers]
    assert min(made) >= 60
    assert max(made) <= 400 - 60


def test_a_preempted_sequence_continues_from_its_keys_and_values_where_they_fit() -> None:
    model = FakeModel(100_000)
    read: list[int] = []
    forward = model.forward
    model.forward = lambda chunks: (read.extend(len(one.ids) for one in chunks), forward(chunks))[1]  # type: ignore[method-assign, func-returns-value]
    scheduler = Scheduler(model, running=2, positions=100_000, slots=4)
    long, short = Generation(2), Generation(1)
    scheduler.add(request([1, 2, 3] * 100, 200, n=2, project="long"), long)
    for _ in range(50):
        scheduler.step()
    scheduler.add(request([4, 5], 2, project="short"), short)
    read.clear()
    while scheduler.busy:
        scheduler.step()
    assert max(read) < 20  # no prompt was read again


def test_a_projects_long_prompts_leave_another_half_of_the_tokens_of_a_step() -> None:
    scheduler = Scheduler(FakeModel(100_000), running=8, positions=100_000)
    for number in range(4):
        scheduler.add(request([number + 1] * 5000, 4, project="long"), Generation(1))
    scheduler.step()
    reader = Generation(1)
    scheduler.add(request([5, 6] * 300, 1, project="short"), reader)
    assert until_first_token(scheduler, reader) == 3  # 600 tokens, 256 a step
