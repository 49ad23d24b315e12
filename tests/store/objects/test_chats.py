"""Kept chat completions: rows, filters, pages."""

from dataclasses import replace

from tunesmith.store import ChatRow, Store

ROW = ChatRow(
    "chatcmpl-1", "base", "gpt-4o-mini", 5, {"text": "\ud800 ☃"}, ({"role": "user"},), {"team": "a"}, "default"
)


def fill(store: Store, count: int) -> list[ChatRow]:
    rows = [replace(ROW, id=f"chatcmpl-{number}", metadata={"n": str(number % 2)}) for number in range(count)]
    for row in rows:
        store.chats.add(row)
    return rows


def test_a_completion_comes_back_as_it_was_kept(store: Store) -> None:
    store.chats.add(ROW)
    assert store.chats.get(ROW.id) == ROW
    assert store.chats.get("chatcmpl-x") is None


def test_pages_are_newest_first_or_oldest_first(store: Store) -> None:
    rows = fill(store, 4)
    page = store.chats.page(limit=3)
    assert (list(page.data), page.has_more) == (rows[:0:-1], True)
    assert list(store.chats.page(after=rows[1].id).data) == rows[:1]
    assert list(store.chats.page(order="asc", after=rows[1].id).data) == rows[2:]


def test_filters_are_model_alias_and_all_pairs(store: Store) -> None:
    rows = fill(store, 3)
    store.chats.add(
        replace(ROW, id="chatcmpl-other", model="ft:x", requested_model="ft:x", metadata={"n": "0", "k": "v"})
    )
    for name in ("base", "gpt-4o-mini"):
        assert list(store.chats.page(model=name, order="asc").data) == rows
    assert [row.id for row in store.chats.page(metadata={"n": "0", "k": "v"}).data] == ["chatcmpl-other"]
    assert len(store.chats.page(metadata={"n": "0"}).data) == 3


def test_new_metadata_takes_the_place_of_the_old(store: Store) -> None:
    store.chats.add(ROW)
    assert store.chats.set_metadata(ROW.id, {"k": "v"}) == replace(ROW, metadata={"k": "v"})
    assert store.chats.page(metadata={"team": "a"}).data == ()
    assert len(store.chats.page(metadata={"k": "v"}).data) == 1
    assert store.chats.set_metadata("chatcmpl-x", {}) is None


def test_a_loop_that_deletes_what_it_lists_sees_every_one(store: Store) -> None:
    rows = fill(store, 3)
    seen: list[str] = []
    page = store.chats.page(limit=1)
    while page.data:
        seen.append(page.data[0].id)
        assert store.chats.delete(seen[-1])
        page = store.chats.page(limit=1, after=seen[-1])
    assert seen == [row.id for row in reversed(rows)]
    assert not store.chats.delete(seen[0])
    assert store.chats.get(seen[0]) is None


def test_another_projects_completions_are_not_there(store: Store) -> None:
    store.chats.add(ROW)
    other = store.of("proj_other").chats
    assert other.get(ROW.id) is None
    assert other.page().data == ()
    assert other.set_metadata(ROW.id, {}) is None
    assert not other.delete(ROW.id)
    assert store.of("default").chats.get(ROW.id) == ROW
