"""What nobody waits for (the rows of evals) leaves the slots and the time to chats, and is not forgotten."""

from tests.serve.engine.fake_model import FakeModel, Row, alone, finish, request, until_first_token

from tunesmith.serve.engine.protocol import Generation
from tunesmith.serve.engine.scheduler import HELD_BACK, POLITE_SECONDS, POLITE_SEQUENCES, Scheduler


def with_background(running: int, **options: object) -> "tuple[Scheduler[str, Row], list[list[int]]]":
    """A scheduler whose slots are full of what nobody waits for; and the numbers of tokens in each step from now on."""
    model, steps = FakeModel(100_000), list[list[int]]()
    scheduler = Scheduler(model, running=running, positions=100_000, slots=2 * running)
    scheduler.add(request([1, 2, 3], 2000, n=2 * running, project="p/evals", background=True), Generation(2 * running))
    for _ in range(30):
        scheduler.step()
    assert len(scheduler._running) == running
    forward = model.forward
    model.forward = lambda chunks: (steps.append([len(one.ids) for one in chunks]), forward(chunks))[1]  # type: ignore[method-assign, func-returns-value]
    return scheduler, steps


def test_a_chats_first_token_comes_as_soon_as_without_the_background() -> None:
    scheduler, steps = with_background(4)
    reader = Generation(1)
    scheduler.add(request([4, 5, 6] * 200, 2, project="p"), reader)
    assert until_first_token(scheduler, reader) == 2  # 600 tokens in pieces of 512, as on an idle engine
    assert steps == [[512], [88]]
    assert [delta.token for delta in finish(scheduler, reader)] == alone(request([4, 5, 6] * 200, 2))


def test_chats_take_every_slot_from_the_background_and_it_gets_them_back() -> None:
    scheduler, _ = with_background(3)
    readers = [Generation(1) for _ in range(5)]
    for number, reader in enumerate(readers):
        scheduler.add(request([4, number + 1], 40, project="p"), reader)
    scheduler.step()
    assert [sequence.background for sequence in scheduler._running] == [False] * 3
    for reader in readers:
        finish(scheduler, reader)
    scheduler.step()
    assert [sequence.background for sequence in scheduler._running] == [True] * 3


def test_the_background_takes_no_slot_from_a_chat() -> None:
    scheduler = Scheduler(FakeModel(100_000), running=2, positions=100_000, slots=4)
    scheduler.add(request([1, 2], 5000, n=2, project="p"), Generation(2))
    scheduler.step()
    scheduler.add(request([3, 4], 5, project="other/evals", background=True), Generation(1))
    for _ in range(200):
        scheduler.step()
    assert [sequence.project for sequence in scheduler._running] == ["p", "p"]


def test_endless_prompts_of_chats_do_not_stop_the_background_for_ever() -> None:
    scheduler, steps = with_background(4)
    for _ in range(40):
        scheduler.add(request([4, 5, 6] * 400, 1, project="p"), Generation(1))
    for _ in range(3 * HELD_BACK):
        scheduler.step()
    beside = [step for step in steps if len(step) > 2]
    assert len(beside) >= 2


def test_the_backgrounds_steps_are_short_while_chats_come_and_nobody_is_left_out() -> None:
    scheduler, steps = with_background(12)
    now = 100.0
    scheduler.clock = lambda: now
    scheduler.step()
    assert len(steps[-1]) == 12
    reader = Generation(1)
    scheduler.add(request([4, 5, 6], 1, project="p"), reader)
    finish(scheduler, reader)
    behind = [*scheduler._running]
    before = [sequence.generated for sequence in behind]
    steps.clear()
    for _ in range(30):
        scheduler.step()
    assert {len(step) for step in steps} == {POLITE_SEQUENCES}
    assert min(sequence.generated - count for sequence, count in zip(behind, before, strict=True)) >= 9
    now += POLITE_SECONDS
    scheduler.step()
    assert len(steps[-1]) == 12
