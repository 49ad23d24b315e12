"""Sessions of the dashboard: how many a key may have."""

from itertools import count

import pytest

from tunesmith.store import Store
from tunesmith.store.accounts import sessions


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second passes from one session to the next."""
    seconds = count(1_800_000_000)
    monkeypatch.setattr("tunesmith.store.accounts.sessions.time.time", lambda: next(seconds))


def test_the_oldest_session_of_a_key_ends_when_it_has_too_many(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MOST_SESSIONS", 3)
    key, other = (store.keys.create(name)[1].id for name in ("mine", "other"))
    kept = store.sessions.create(other)
    link = store.sessions.create(key, one_time=True)
    tokens = [store.sessions.create(key) for _ in range(5)]
    assert [store.sessions.find(one) is not None for one in tokens] == [False, False, True, True, True]
    assert store.sessions.find(kept) is not None
    assert store.sessions.redeem(link) is not None
    assert store.sessions.find(tokens[2]) is None  # the link's session is one more


def test_the_oldest_unused_link_of_a_key_ends_when_it_has_too_many(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "MOST_LINKS", 2)
    key = store.keys.create("mine")[1].id
    session = store.sessions.create(key)
    links = [store.sessions.create(key, one_time=True) for _ in range(4)]
    assert [store.sessions.redeem(one) is not None for one in links] == [False, False, True, True]
    assert store.sessions.find(session) is not None


def test_a_key_has_room_for_all_browsers_of_a_team() -> None:
    assert (sessions.MOST_SESSIONS, sessions.MOST_LINKS) == (50, 10)
