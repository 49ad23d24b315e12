"""The queue of runs on both databases: one holder at a time, answers once, sums that agree."""

import json
import time
from collections.abc import Callable

import pytest
from sqlalchemy import event

from tunesmith.errors import InvalidRequest, NotFound
from tunesmith.jsonvalue import JsonObject
from tunesmith.store import LeaseLost, Store
from tunesmith.store.evals.rows import Invocations, NewEval, NewRun, RunItem, RunRow, Saved
from tunesmith.store.objects.pagination import Cursor

MakeRun = Callable[..., RunRow]


@pytest.fixture
def make_run(store: Store) -> MakeRun:
    def make(rows: int = 3, project: str = "default") -> RunRow:
        row = store.evals.create(NewEval(project, "e", {"type": "custom"}, ({"name": "c"},), {}))
        new = NewRun(row.id, project, "key_1", "r", "base", {"type": "jsonl"}, {})
        return store.runs.create(new, [RunItem({"n": number}) for number in range(rows)])

    return make


def passed(item_id: str, *, prompt: int = 7) -> Saved:
    return Saved(item_id, {"o": 1}, ({"passed": True},), "pass", (True,), {"base": Invocations(1, prompt, 2, 1)})


def test_a_run_has_one_holder_and_a_project_one_run_at_a_time(store: Store, make_run: MakeRun) -> None:
    first, second, other = make_run(), make_run(), make_run(project="other")
    held, lease = store.run_queue.claim("one", 30) or pytest.fail("nothing to claim")
    assert (held.id, held.status, held.attempt) == (first.id, "in_progress", 1)
    elsewhere, _ = store.run_queue.claim("two", 30) or pytest.fail("nothing to claim")
    assert elsewhere.id == other.id
    assert store.run_queue.claim("three", 30) is None
    store.run_queue.finish(lease)
    found = store.run_queue.claim("three", 30)
    assert found is not None
    assert found[0].id == second.id


def test_a_lease_that_ended_is_taken_over_and_the_old_holder_writes_nothing(store: Store, make_run: MakeRun) -> None:
    run = make_run()
    _, old = store.run_queue.claim("one", 0.05) or pytest.fail("nothing to claim")
    [first, *_] = store.run_queue.waiting(old, 0, 10)
    time.sleep(0.1)
    taken, new = store.run_queue.claim("two", 30) or pytest.fail("nothing to claim")
    assert (taken.id, taken.attempt, taken.stalled) == (run.id, 2, 2)
    with pytest.raises(LeaseLost, match="taken"):
        store.run_queue.save(old, [passed(first.id)])
    assert [item.state for item in store.run_queue.waiting(new, 0, 10)] == ["waiting"] * 3
    store.run_queue.save(new, [passed(first.id)])
    assert store.runs.get(run.eval_id, run.id).stalled == 0


def test_a_holder_that_was_slow_does_not_take_its_run_from_itself(store: Store, make_run: MakeRun) -> None:
    run = make_run()
    _, lease = store.run_queue.claim("one", 0.05) or pytest.fail("nothing to claim")
    time.sleep(0.1)
    assert store.run_queue.claim("one", 30) is None
    store.run_queue.renew(lease, 30)
    assert store.run_queue.claim("two", 30) is None
    store.run_queue.release(lease, stalled=True)
    assert store.runs.get(run.eval_id, run.id).stalled == 1
    assert store.run_queue.claim("one", 30) is not None


def test_an_answer_is_kept_once_with_its_sums_and_usage(store: Store, make_run: MakeRun) -> None:
    run = make_run()
    _, lease = store.run_queue.claim("one", 30) or pytest.fail("nothing to claim")
    first, second, third = store.run_queue.waiting(lease, 0, 10)
    answer = Saved(first.id, {"o": 1}, (), spent={"base": Invocations(1, 7, 2, 1)})
    store.run_queue.save(lease, [answer])
    assert store.run_queue.waiting(lease, 0, 1)[0].sample == {"o": 1}
    end = Saved(first.id, {"o": 1}, ({"passed": False},), "fail", (False,), {})
    broken = Saved(third.id, None, (), "error", (None,))
    store.run_queue.save(lease, [end, passed(second.id), broken])
    store.run_queue.save(lease, [passed(second.id)])  # once more changes nothing
    found = store.runs.get(run.eval_id, run.id)
    assert (found.passed, found.failed, found.errored) == (1, 1, 1)
    assert found.totals.criteria == ((1, 1),)
    assert found.totals.usage == {"base": Invocations(2, 14, 4, 2)}
    [counted] = store.usage.sums(0, 2**40, 86_400)
    counts = counted.counts
    assert (counts.requests, counts.prompt_tokens, counts.cached_tokens, counts.completion_tokens) == (2, 14, 2, 4)
    assert store.run_queue.waiting(lease, 0, 10) == []
    listed = store.runs.items(found, Cursor(10, None, "asc")).data
    assert [item.number for item in listed] == [0, 1, 2]  # in the order in which they ended
    assert [item.number for item in store.runs.items(found, Cursor(10, listed[0].id, "asc"), "pass").data] == [1]


def test_answers_of_a_batch_are_written_with_as_few_statements_as_one(store: Store, make_run: MakeRun) -> None:
    run = make_run(40)
    _, lease = store.run_queue.claim("one", 30) or pytest.fail("nothing to claim")
    items = store.run_queue.waiting(lease, 0, 40)
    statements: list[str] = []
    event.listen(
        store.database.engine, "before_cursor_execute", lambda _1, _2, statement, *_: statements.append(statement)
    )
    counts = []
    for batch in (items[:1], items[1:17], items[17:]):
        statements.clear()
        store.run_queue.save(lease, [passed(item.id) for item in batch])
        counts.append(len(statements))
    assert len(set(counts)) == 1
    found = store.runs.get(run.eval_id, run.id)
    assert (found.passed, found.totals.usage["base"].count) == (40, 40)
    listed = store.runs.items(found, Cursor(40, None, "asc")).data
    assert [item.number for item in listed] == list(range(40))
    assert {json.dumps(item.sample) for item in listed} == {'{"o": 1}'}


def test_a_row_that_comes_twice_in_a_batch_ends_once(store: Store, make_run: MakeRun) -> None:
    run = make_run(2)
    _, lease = store.run_queue.claim("one", 30) or pytest.fail("nothing to claim")
    first, second = store.run_queue.waiting(lease, 0, 2)
    kept = Saved(first.id, {"o": "ü\ud800"}, (), spent={"base": Invocations(1, 7, 2, 1)})
    ended = Saved(first.id, {"o": "ü\ud800"}, ({"passed": True},), "pass", (True,))
    store.run_queue.save(lease, [kept, ended, passed(first.id), passed(second.id)])
    found = store.runs.get(run.eval_id, run.id)
    assert (found.passed, found.totals.criteria) == (2, ((2, 0),))
    assert found.totals.usage == {"base": Invocations(2, 14, 4, 2)}
    one, two = store.runs.items(found, Cursor(10, None, "asc")).data
    assert (one.sample, one.results, one.state, two.number) == ({"o": "ü\ud800"}, ({"passed": True},), "pass", 1)


def test_a_cancelled_or_deleted_run_takes_no_more_answers(store: Store, make_run: MakeRun) -> None:
    for end, code in ((store.runs.cancel, "canceled"), (store.runs.delete, "deleted")):
        run = make_run()
        _, lease = store.run_queue.claim("one", 30) or pytest.fail("nothing to claim")
        [first, *_] = store.run_queue.waiting(lease, 0, 10)
        end(run.eval_id, run.id)
        with pytest.raises(LeaseLost) as lost:
            store.run_queue.save(lease, [passed(first.id)])
        assert lost.value.code == code
        with pytest.raises(LeaseLost):
            store.run_queue.renew(lease, 5)
        with pytest.raises(LeaseLost):
            store.run_queue.check_held(lease)
        store.run_queue.release(lease)


def test_a_run_that_was_given_back_is_claimed_at_once(store: Store, make_run: MakeRun) -> None:
    run = make_run()
    _, lease = store.run_queue.claim("one", 30) or pytest.fail("nothing to claim")
    store.run_queue.release(lease)
    taken, _ = store.run_queue.claim("two", 30) or pytest.fail("nothing to claim")
    assert (taken.id, taken.stalled) == (run.id, 1)


def test_a_failed_run_says_why_and_cannot_be_cancelled(store: Store, make_run: MakeRun) -> None:
    run = make_run()
    _, lease = store.run_queue.claim("one", 30) or pytest.fail("nothing to claim")
    store.run_queue.fail(lease, "gone", "The model is gone.")
    assert store.runs.get(run.eval_id, run.id).error == {"code": "gone", "message": "The model is gone."}
    with pytest.raises(InvalidRequest, match="failed"):
        store.runs.cancel(run.eval_id, run.id)


def test_a_page_of_items_has_only_so_many_bytes(store: Store, make_run: MakeRun) -> None:
    run = make_run()
    _, lease = store.run_queue.claim("one", 30) or pytest.fail("nothing to claim")
    items = store.run_queue.waiting(lease, 0, 10)
    long: JsonObject = {"o": "x" * 5_000_000}
    store.run_queue.save(lease, [Saved(item.id, long, (), "pass", (True,)) for item in items])
    page = store.runs.items(run, Cursor(10, None, "asc"))
    assert (len(page.data), page.has_more) == (1, True)


def test_another_projects_runs_are_not_there(store: Store, make_run: MakeRun) -> None:
    run = make_run(project="other")
    assert store.of("other").runs.get(run.eval_id, run.id) == run
    for look in (store.of("default").runs.get, store.of("default").runs.cancel, store.of("default").runs.delete):
        with pytest.raises(NotFound):
            look(run.eval_id, run.id)
    with pytest.raises(NotFound):
        store.of("default").evals.get(run.eval_id)


def test_two_runs_are_paired_by_number_and_item(store: Store, make_run: MakeRun) -> None:
    first, second = make_run(3), make_run(4)
    for run, done in ((first, 3), (second, 2)):
        _, lease = store.run_queue.claim("one", 30) or pytest.fail("nothing to claim")
        assert lease.run_id == run.id
        for item in store.run_queue.waiting(lease, 0, 10)[:done]:
            store.run_queue.save(lease, [passed(item.id)])
        store.run_queue.finish(lease)
    pairs = store.of("default").runs.paired(first, second)
    assert [(one.number, one.before.state, one.after.state) for one in pairs] == [
        (0, "pass", "pass"),
        (1, "pass", "pass"),
    ]
    assert pairs[0].before.id != pairs[0].after.id
    assert store.of("other").runs.paired(first, second) == []


def test_a_rows_answer_does_not_read_or_write_the_data_source_again(store: Store) -> None:
    made = store.evals.create(NewEval("default", "e", {"type": "custom"}, ({"name": "c"},), {}))
    source: JsonObject = {"type": "jsonl", "text": "x" * 100_000}
    run = store.runs.create(NewRun(made.id, "default", None, "r", "base", source, {}), [RunItem({"n": 1})] * 2)
    held, lease = store.run_queue.claim("one", 30) or pytest.fail("nothing to claim")
    assert held.data_source == source
    sizes: list[int] = []
    event.listen(
        store.database.engine,
        "before_cursor_execute",
        lambda _1, _2, statement, given, *_: sizes.append(len(str(given)) + 10**6 * ("eval_sources" in statement)),
    )
    first, second = store.run_queue.waiting(lease, 0, 10)
    store.run_queue.save(lease, [passed(first.id)])
    store.run_queue.check_held(lease)
    store.run_queue.renew(lease, 30)
    store.run_queue.save(lease, [passed(second.id)])
    store.run_queue.finish(lease)
    assert sizes
    assert max(sizes) < 10_000
    assert store.runs.get(made.id, run.id).data_source == source
