"""What a rank hears of another's end, over real connections."""

import contextlib
import json
import queue
import socket
from collections.abc import Iterator

import pytest

from tunesmith.train.core.interrupt import RankLost, Stopped
from tunesmith.train.ranks.watch import Ending, RankFailed, Watch


class Pair:
    """Rank 0 and rank 1 of two, and what each heard."""

    def __init__(self) -> None:
        self.heard: list[queue.Queue[BaseException]] = [queue.Queue(), queue.Queue()]
        self.first, self.second = (Watch(rank, self.heard[rank].put) for rank in (0, 1))
        self.address = self.first.listen("127.0.0.1", 2)

    def hears(self, rank: int) -> BaseException:
        return self.heard[rank].get(timeout=10.0)


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    for watch in (pair.first, pair.second):
        watch.tell(Ending("done"))


def test_each_hears_how_the_other_ends(pair: Pair) -> None:
    pair.second.connect(pair.address)
    pair.second.tell(Ending("failed", "Too long.", "out_of_memory", "batch_size"))
    failed = pair.hears(0)
    assert isinstance(failed, RankFailed)
    assert (failed.message, failed.code, failed.param) == ("Too long. (Rank 1 says so.)", "out_of_memory", "batch_size")
    pair.first.tell(Ending("stopped", "rank 1 was lost"))
    assert pair.heard[1].empty()  # it has ended itself


def test_why_a_rank_ends_is_passed_on(pair: Pair) -> None:
    pair.second.connect(pair.address)
    pair.first.tell(Ending("stopped", "rank 2 ended without a word"))
    lost = pair.hears(1)
    assert isinstance(lost, RankLost)
    assert str(lost) == "rank 2 ended without a word"


def test_a_connection_that_breaks_is_a_loss(pair: Pair) -> None:
    where = json.loads(pair.address)
    with socket.create_connection((where["host"], where["port"])) as other:
        other.sendall(json.dumps({"rank": 1, "token": where["token"]}).encode() + b"\n")
    lost = pair.hears(0)
    assert isinstance(lost, RankLost)
    assert str(lost) == "rank 1 ended without a word: it was killed, or its machine is gone"


@pytest.mark.parametrize(
    "hello", [b"", b"GET / HTTP/1.1\r\n\r\n", b'{"rank": 1, "token": "0"}\n', b"[]\n", b"x" * 100_000], ids=range(5)
)
def test_a_stranger_is_turned_away(pair: Pair, hello: bytes) -> None:
    where = json.loads(pair.address)
    with socket.create_connection((where["host"], where["port"])) as stranger:
        stranger.settimeout(10.0)
        with contextlib.suppress(OSError):  # it may be closed with bytes unread
            stranger.sendall(hello)
            stranger.shutdown(socket.SHUT_WR)
            assert stranger.recv(1) == b""
    pair.second.connect(pair.address)  # and the rank is still awaited
    pair.second.tell(Ending("stopped"))
    assert type(pair.hears(0)) is Stopped  # who stops one of them stops the run
    assert pair.heard[0].empty()
