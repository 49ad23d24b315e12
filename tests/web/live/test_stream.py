"""The stream of a job's page: what it sends, how it goes on, and everything that ends it."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest
from starlette.testclient import TestClient
from starlette.types import Message
from tests.web.conftest import SignIn
from tests.web.work import finish, new_job, running_job, train

from tunesmith.settings import Settings
from tunesmith.store import Store
from tunesmith.web.live import feed as feeds
from tunesmith.web.live import stream
from tunesmith.web.live.feed import Feed, Place
from tunesmith.web.live.stream import LiveStream, Looker, end_viewers, open_viewers


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "SECONDS", 0.0)
    monkeypatch.setattr(stream, "SECONDS", 0.02)


@dataclass
class Viewer:
    """A client of one stream; leaves when told."""

    stream: LiveStream
    text: str = ""
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    def watch(self) -> asyncio.Task[None]:
        return asyncio.create_task(self.stream({"type": "http"}, self._receive, self._send))

    async def _receive(self) -> Message:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        self.text += message.get("body", b"").decode()

    async def until(self, met: Callable[[str], bool]) -> None:
        async with asyncio.timeout(5):
            while not met(self.text):
                await asyncio.sleep(0.005)


def viewer(
    store: Store, job_id: str, seen: str = "", session: str = "s", *, key: str = "k", valid: bool = True
) -> Viewer:
    return Viewer(LiveStream(Feed(store, job_id), Place.read(seen), Looker(session, key, "en"), lambda: valid))


def run(play: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(play(), 10))


def messages(text: str) -> list[tuple[str, dict[str, object]]]:
    """The ids and data of events without a name."""
    found = [dict(line.split(": ", 1) for line in part.split("\n")) for part in text.split("\n\n") if part]
    return [(one["id"], json.loads(one["data"])) for one in found if "id" in one]


def test_a_viewer_is_told_when_the_verdict_begins(store: Store) -> None:
    lease = running_job(store, options={"evaluate": True})
    train(store, lease, 1, 19, 20)

    async def play() -> None:
        mine = viewer(store, lease.job_id)
        mine.watch()
        await mine.until(lambda text: '"19 / 20"' in text)
        train(store, lease, 20, 20, 20)
        await mine.until(lambda text: '"20 / 20"' in text)
        first, last = (data["marks"]["head"] for _, data in messages(mine.text))  # type: ignore[index]
        assert first != last  # so the page asks for its head again
        mine.gone.set()

    run(play)


def test_a_viewer_gets_everything_then_what_is_new_then_the_end(store: Store, settings: Settings) -> None:
    lease = running_job(store)
    train(store, lease, 1, 10, 20)

    async def play() -> None:
        mine = viewer(store, lease.job_id)
        task = mine.watch()
        await mine.until(lambda text: '"10 / 20"' in text)
        train(store, lease, 11, 12, 20)
        await mine.until(lambda text: '"12 / 20"' in text)
        finish(store, lease, settings.paths.jobs / "none")
        await task
        (_, first), *_, (_, last) = messages(mine.text)
        assert first["curves"]["train_loss"] == [0, [[n, 2 - n / 20] for n in range(1, 11)]]  # type: ignore[index]
        changes = [data["curves"]["train_loss"] for _, data in messages(mine.text)[1:] if data["curves"]]  # type: ignore[index]
        assert changes == [[10, [[10, 1.5], [11, 1.45], [12, 1.4]]]]
        assert last["marks"]["head"].startswith("succeeded")  # type: ignore[index]
        assert mine.text.endswith("event: ended\ndata: {}\n\n")

    run(play)


def test_whoever_comes_back_gets_only_what_is_new(store: Store, settings: Settings) -> None:
    lease = running_job(store)
    train(store, lease, 1, 400, 500)
    feed = Feed(store, lease.job_id)
    feed.refresh()
    seen = str(feed.place())
    train(store, lease, 401, 402, 500)
    finish(store, lease, settings.paths.jobs / "none")

    async def play() -> None:
        mine = viewer(store, lease.job_id, seen)
        await mine.watch()
        ((place, data),) = messages(mine.text)
        since, points = data["curves"]["train_loss"]  # type: ignore[index]
        assert since == 400
        assert [step for step, _ in points] == [400, 401, 402]
        assert Place.read(place).step == 402

    run(play)


def test_a_stream_sleeps_while_nothing_happens(store: Store) -> None:
    lease = running_job(store)
    train(store, lease, 1, 3, 9)

    async def play() -> None:
        mine = viewer(store, lease.job_id)
        task = mine.watch()
        await mine.until(lambda text: "3 / 9" in text)
        await asyncio.sleep(0.1)
        sent, looks = mine.text, mine.stream._feed.looks
        await asyncio.sleep(0.2)
        assert (mine.text, mine.stream._feed.looks) == (sent, looks)
        mine.gone.set()
        await task

    run(play)


def test_every_end_leaves_no_stream_behind(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "ALIVE_SECONDS", 0.05)
    job = new_job(store)

    async def play() -> None:
        leaver, member, revoked = viewer(store, job.id), viewer(store, job.id), viewer(store, job.id, valid=False)
        tasks = [one.watch() for one in (leaver, member, revoked)]
        await member.until(lambda text: "event: alive" in text)
        await tasks[2]
        assert revoked.text.endswith("event: signed-out\ndata: {}\n\n")
        leaver.gone.set()
        await tasks[0]
        assert open_viewers() == 1
        end_viewers()
        await tasks[1]
        assert open_viewers() == 0

    run(play)


def test_the_oldest_of_too_many_streams_of_a_session_ends(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MOST_OF_SESSION", 2)
    job = new_job(store)

    async def play() -> None:
        other = viewer(store, job.id, session="other")
        mine = [viewer(store, job.id) for _ in range(3)]
        tasks = []
        for one in (other, *mine):
            tasks.append(one.watch())
            await one.until(lambda text: "marks" in text)
        await tasks[1]
        assert mine[0].text.endswith("event: replaced\ndata: {}\n\n")
        assert open_viewers() == 3
        end_viewers()
        await asyncio.gather(*tasks)

    run(play)


def test_signing_in_again_and_again_takes_no_places_of_others(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MOST_OF_KEY", 3)
    monkeypatch.setattr(stream, "MOST", 5)
    job = new_job(store)

    async def play() -> None:
        others = [viewer(store, job.id, session="other", key="other") for _ in range(2)]
        mine = [viewer(store, job.id, session=f"mine-{number}") for number in range(9)]
        tasks = []
        for one in (*others, *mine):
            tasks.append(one.watch())
            await one.until(lambda text: "marks" in text)
        await asyncio.gather(*tasks[2:8])
        assert all(one.text.endswith("event: replaced\ndata: {}\n\n") for one in mine[:6])
        assert [task.done() for task in (*tasks[:2], *tasks[8:])] == [False] * 5
        end_viewers()
        await asyncio.gather(*tasks)

    run(play)


def test_the_page_streams_over_http_to_those_who_may_see_the_job(
    browser: TestClient, sign_in: SignIn, store: Store, settings: Settings
) -> None:
    lease = running_job(store)
    train(store, lease, 1, 5, 5)
    finish(store, lease, settings.paths.jobs / "none")
    answer = browser.get(f"/ui/live/jobs/{lease.job_id}")
    assert answer.headers["content-type"].startswith("text/event-stream")
    ((place, data),) = messages(answer.text)
    assert data["shown"]["step"] == "5 / 5"  # type: ignore[index]
    again = browser.get(f"/ui/live/jobs/{lease.job_id}", headers={"last-event-id": place})
    assert messages(again.text)[0][1]["curves"] == {}
    assert browser.head(f"/ui/live/jobs/{lease.job_id}").status_code == 200
    assert browser.get("/ui/live/jobs/ftjob-none").status_code == 404
    assert sign_in("read-only").get(f"/ui/live/jobs/{lease.job_id}").status_code == 200
    others = store.projects.create("others").id
    assert sign_in(project=others).get(f"/ui/live/jobs/{lease.job_id}").status_code == 404
    browser.cookies.clear()
    assert browser.get(f"/ui/live/jobs/{lease.job_id}").status_code == 401
