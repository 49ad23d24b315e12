"""Rows of a run that end together cost one transaction, and one look at which model it is."""

import asyncio
import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import event
from starlette.testclient import TestClient
from tests.api.evals.conftest import Done, MakeEval, MakeRun, sampled

from tunesmith.api.evals.saving import Saver
from tunesmith.store import LeaseLost, Store
from tunesmith.store.evals.rows import Invocations, NewEval, NewRun, RunItem, Saved

ROWS = 24


@pytest.fixture
def statements(store: Store) -> Iterator[list[str]]:
    """Every statement that is sent from now on, and COMMIT."""
    seen: list[str] = []
    lock = threading.Lock()

    def note(*given: object) -> None:
        with lock:
            seen.append(str(given[2]) if len(given) > 1 else "COMMIT")

    event.listen(store.database.engine, "before_cursor_execute", note)
    event.listen(store.database.engine, "commit", note)
    yield seen
    event.remove(store.database.engine, "before_cursor_execute", note)
    event.remove(store.database.engine, "commit", note)


def saved(item_id: str) -> Saved:
    return Saved(item_id, {"o": 1}, ({"passed": True},), "pass", (True,), {"base": Invocations(1, 7, 2, 1)})


def test_rows_that_end_one_after_another_share_a_transaction(store: Store, statements: list[str]) -> None:
    made = store.evals.create(NewEval("default", "e", {"type": "custom"}, ({"name": "c"},), {}))
    new = NewRun(made.id, "default", "key_1", "r", "base", {"type": "jsonl"}, {})
    run = store.runs.create(new, [RunItem({"n": number}) for number in range(20)])
    _, lease = store.run_queue.claim("one", 30) or pytest.fail("nothing to claim")
    items = store.run_queue.waiting(lease, 0, 20)
    on_disk: list[int] = []

    async def save(saver: Saver, item_id: str) -> None:
        await saver.save(saved(item_id))
        on_disk.append(store.runs.get(run.eval_id, run.id).passed)  # what `save` promises: it is committed

    async def all_rows() -> None:
        saver = Saver(store.run_queue, lease, 16)
        writer = asyncio.create_task(saver.work())
        rows = []
        for item in items:
            rows.append(asyncio.create_task(save(saver, item.id)))
            await asyncio.sleep(0)
        await asyncio.gather(*rows)
        writer.cancel()

    statements.clear()
    asyncio.run(all_rows())
    written = [one for one in statements if one.startswith("UPDATE eval_items")]
    assert len(written) <= 3
    assert store.runs.get(run.eval_id, run.id).passed == 20
    assert len(on_disk) == 20
    assert min(on_disk) >= 1


def test_a_row_alone_is_saved_soon_and_a_lost_lease_ends_the_saver(store: Store) -> None:
    made = store.evals.create(NewEval("default", "e", {"type": "custom"}, ({"name": "c"},), {}))
    run = store.runs.create(NewRun(made.id, "default", None, "r", "base", {}, {}), [RunItem({"n": 1})] * 2)
    _, lease = store.run_queue.claim("one", 30) or pytest.fail("nothing to claim")
    first, second = store.run_queue.waiting(lease, 0, 2)

    async def rows() -> None:
        saver = Saver(store.run_queue, lease, 16)
        writer = asyncio.create_task(saver.work())
        await asyncio.wait_for(saver.save(saved(first.id)), 10)
        store.runs.cancel(run.eval_id, run.id)
        late = asyncio.create_task(saver.save(saved(second.id)))
        with pytest.raises(LeaseLost):
            await asyncio.wait_for(writer, 10)
        late.cancel()

    asyncio.run(rows())
    assert store.runs.get(run.eval_id, run.id).passed == 1


def test_a_run_looks_its_model_up_once_in_a_while_and_not_for_each_row(
    client: TestClient, make_eval: MakeEval, make_run: MakeRun, done: Done, statements: list[str]
) -> None:
    made = make_eval()
    statements.clear()
    run = done(make_run(made["id"], sampled([{"item": {"answer": str(number)}} for number in range(ROWS)])))
    assert run["result_counts"]["total"] == ROWS
    assert run["result_counts"]["errored"] == 0
    looked = sum(one.startswith("SELECT") and " FROM models" in " ".join(one.split()) for one in statements)
    assert 1 <= looked <= ROWS // 3  # once in two seconds, however many come together
