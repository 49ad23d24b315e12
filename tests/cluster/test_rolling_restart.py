"""Servers restart under load: no request fails, and every answer that is being streamed ends whole.

One of the two; with ROLLING_REQUESTS=1000 (`make rolling-restart`) both in turn, and it prints what it has seen.
"""

import os
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import httpx
import openai
import pytest
from tests.cluster.machines import Cluster, Machine
from tests.contract.conftest import joke_rows

ASKED = os.environ.get("ROLLING_REQUESTS")
REQUESTS = int(ASKED or "40")  # operations, at least; they go on while servers restart
CLIENTS = 3
PAUSE = 0.02  # seconds between two requests of a client
QUESTION: Any = [{"role": "user", "content": "How is the weather in Rome?"}]
READY_SECONDS = 30.0


@dataclass
class Load:
    """Clients that ask one thing after another, and what became of it."""

    client: openai.OpenAI
    file_id: str
    done: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    _numbers: "count[int]" = field(default_factory=count)
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Until `stop`; one client always streams."""
        threads = [threading.Thread(target=self._ask_on, args=(number,)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        self._stop.wait()
        for thread in threads:
            thread.join()

    def stop(self) -> None:
        self._stop.set()

    def _ask_on(self, number: int) -> None:
        kinds: tuple[Callable[[], object], ...] = (self.file, self.job, self.chat, self.models)
        while not self._stop.is_set():
            ask = self.stream if number == 0 else kinds[next(self._numbers) % len(kinds)]
            begun = time.monotonic()
            try:
                ask()
            except (openai.OpenAIError, httpx.HTTPError, AssertionError) as error:
                self.failed.append(f"{ask.__name__}: {type(error).__name__}: {error} ({error.__cause__!r})")
            self.done[ask.__name__] += 1
            self.seconds.append(time.monotonic() - begun)
            time.sleep(PAUSE)

    def file(self) -> None:
        made = self.client.files.create(file=("rows.jsonl", joke_rows(4)), purpose="fine-tune")
        assert self.client.files.content(made.id).read() == joke_rows(4)
        assert self.client.files.delete(made.id).deleted

    def job(self) -> None:
        job = self.client.fine_tuning.jobs.create(model="tiny", training_file=self.file_id)
        assert self.client.fine_tuning.jobs.cancel(job.id).status == "cancelled"

    def chat(self) -> None:
        found = self.client.chat.completions.create(model="tiny", messages=QUESTION, max_tokens=4)
        assert found.choices[0].message.content is not None

    def models(self) -> None:
        assert self.client.models.list().data

    def stream(self) -> None:
        """An answer that takes a while, and ends as answers do."""
        chunks = list(
            self.client.chat.completions.create(model="tiny", messages=QUESTION, max_tokens=200, stream=True, seed=1)
        )
        assert chunks[-1].choices[0].finish_reason in ("stop", "length")


def restart(cluster: Cluster, server: Machine) -> float:
    """Ends a server and starts it again, and waits until the proxy sends it requests; seconds."""
    begun = time.monotonic()
    server.stop()
    server.start()
    server.wait_ready()
    while not all(cluster.proxy.ready.get(address) for address in cluster.proxy.servers):
        assert time.monotonic() - begun < READY_SECONDS + 60
        time.sleep(0.05)
    return time.monotonic() - begun


def test_no_request_fails_while_servers_restart(
    cluster: Cluster, client: openai.OpenAI, capsys: pytest.CaptureFixture[str]
) -> None:
    file = client.files.create(file=("rows.jsonl", joke_rows(10)), purpose="fine-tune")
    for _ in cluster.servers:  # each has loaded the base
        client.chat.completions.create(model="tiny", messages=QUESTION, max_tokens=1)
    load = Load(client, file.id)
    running = threading.Thread(target=load.run)
    running.start()
    try:
        restarts = [restart(cluster, server) for server in (cluster.servers if ASKED else cluster.servers[:1])]
        deadline = time.monotonic() + REQUESTS
        while load.done.total() < REQUESTS and time.monotonic() < deadline:
            time.sleep(0.1)
    finally:
        load.stop()
        running.join()
    if ASKED:
        with capsys.disabled():
            print(_table(load, cluster, restarts))
    assert load.failed == []
    assert load.done.total() >= REQUESTS
    assert min(load.done.values()) > 0
    assert set(load.done) == {"stream", "file", "job", "chat", "models"}


def _table(load: Load, cluster: Cluster, restarts: list[float]) -> str:
    taken = sorted(load.seconds)
    kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(load.done.items()))
    return (
        f"\n{load.done.total()} operations ({kinds}), {cluster.proxy.sent.total()} requests through the proxy, "
        f"{len(load.failed)} failed; {len(restarts)} restarts of {statistics.mean(restarts):.1f} s; "
        f"median {statistics.median(taken):.3f} s, 99 % {taken[int(len(taken) * 0.99)]:.2f} s, "
        f"longest {taken[-1]:.2f} s; {cluster.proxy.refused} connections refused and tried elsewhere"
    )
