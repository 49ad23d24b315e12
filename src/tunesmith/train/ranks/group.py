"""The ranks of a run as one of them sees them: sums, and what rank 0 knows.

`torch.distributed` moves the bytes: gloo for tensors on a CPU, NCCL for those on a GPU. Every rank makes the same calls
in the same order. A call waits for the slowest rank for as long as that takes, but ends with RankLost or RankFailed
when one is gone (`ranks.watch`), and with `Stopped` when this process is asked to end.
"""

import ipaddress
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import FileStore, Store
from torch.distributed.rendezvous import rendezvous

from tunesmith.errors import TrainerError
from tunesmith.jsonvalue import JsonValue
from tunesmith.train.core.interrupt import Interrupt, RankLost
from tunesmith.train.ranks.place import ALONE, Place
from tunesmith.train.ranks.watch import Ending, RankFailed, Watch

MEET_SECONDS = 300.0  # for all ranks to have started
FOREVER = timedelta(days=365)  # gloo's own limit: a rank may wait for a long validation; deaths are seen by the watch
SPINS = 200  # looks without a pause: a sum over small adapters takes less than a millisecond
PAUSE_SECONDS = 2e-4
WORD_SECONDS = 2.0  # between a broken connection of gloo's and the word of the watch about it

ResultT = TypeVar("ResultT")


class Ranks:
    """This rank among the others.

    Alone, every call returns at once with what it was given.
    """

    def __init__(self, place: Place = ALONE, watch: Watch | None = None) -> None:
        self.place, self.watch = place, watch

    @property
    def size(self) -> int:
        """How many ranks there are."""
        return self.place.size

    @property
    def leads(self) -> bool:
        """Whether this is rank 0, which reports and writes."""
        return self.place.leads

    def add_up(self, tensor: Tensor) -> None:
        """Replaces `tensor` by its sum over the ranks: the same bits on each."""
        if self.size > 1:
            self.wait(dist.all_reduce(tensor, async_op=True))

    def totals(self, values: Sequence[float]) -> list[float]:
        """The sum of each value over the ranks, in float64."""
        if self.size == 1:
            return list(values)
        sums = torch.tensor(values, dtype=torch.float64)
        self.add_up(sums)
        return sums.tolist()

    def copy_from_first(self, tensor: Tensor) -> None:
        """Gives `tensor` the values that it has on rank 0."""
        if self.size > 1:
            self.wait(dist.broadcast(tensor, 0, async_op=True))

    def of_first(self, value: JsonValue) -> JsonValue:
        """What `value` is on rank 0."""
        return self.of_all(value if self.leads else None)[0]

    def of_all(self, value: JsonValue) -> list[JsonValue]:
        """What `value` is on each rank, in their order."""
        if self.size == 1:
            return [value]
        mine = json.dumps(value).encode()
        lengths = [int(length) for length in self._gathered(torch.tensor([len(mine)]))]
        padded = torch.zeros(max(lengths), dtype=torch.uint8)
        padded[: len(mine)] = torch.frombuffer(bytearray(mine), dtype=torch.uint8)
        texts = self._gathered(padded)
        return [
            cast(JsonValue, json.loads(text[:length].numpy().tobytes()))
            for text, length in zip(texts, lengths, strict=True)
        ]

    def wait(self, work: dist.Work | None) -> None:
        """Waits in Python, where a signal is heard; gloo itself would wait on."""
        if work is None:
            return
        looks = 0
        try:
            while not work.is_completed():
                self._demand()
                looks += 1
                time.sleep(0 if looks < SPINS else PAUSE_SECONDS)
            work.wait()
        except RuntimeError as error:
            raise self._loss(error) from error

    def _demand(self) -> None:
        """Raises where another rank is lost; one that only stopped has done its part."""
        if self.watch is not None and isinstance(self.watch.reason, RankLost | RankFailed):
            raise self.watch.reason

    def leave(self, ending: Ending) -> None:
        """Tells the other ranks how this one ends."""
        if self.watch is not None:
            self.watch.tell(ending)

    def gather_to_first(self, mine: Tensor) -> list[Tensor]:
        """What `mine`, of one size everywhere, is on each rank; nothing but on rank 0."""
        found = [torch.empty_like(mine) for _ in range(self.size)] if self.leads else []
        self.wait(dist.gather(mine, found or None, 0, async_op=True))
        return found

    def _gathered(self, mine: Tensor) -> list[Tensor]:
        found = [torch.empty_like(mine) for _ in range(self.size)]
        self.wait(dist.all_gather(found, mine, async_op=True))
        return found

    def _loss(self, error: RuntimeError) -> BaseException:
        """Why a connection has broken; the watch hears of it at about the same time."""
        until = time.monotonic() + WORD_SECONDS
        while self.watch is not None and time.monotonic() < until:
            if self.watch.reason is not None:
                return self.watch.reason
            time.sleep(0.01)
        return RankLost(f"the connection to another rank broke ({str(error).splitlines()[0][:200]})")


ONE_RANK = Ranks()


def join(place: Place, interrupt: Interrupt) -> Ranks:
    """Waits until all ranks have started, and joins them.

    Call in an interruptible block. Raises TrainerError where they do not meet within `MEET_SECONDS`.
    """
    if place.size == 1:
        return ONE_RANK
    watch = Watch(place.rank, interrupt.end)
    try:
        store = _in_thread(lambda: _met(place))
        _open(watch, place, store)
        _in_thread(lambda: _initialise(place, store))
    except RuntimeError as error:  # torch's own errors of stores and connections
        raise TrainerError(
            f"The {place.size} ranks did not meet at {place.meets_at} within {MEET_SECONDS:.0f} s. Start "
            "all of them with the same MASTER_ADDR, MASTER_PORT and WORLD_SIZE, each with its own RANK, and let the "
            f"machines reach each other. This is {place.name}: {str(error).splitlines()[0][:200]}",
            code="ranks_did_not_meet",
        ) from error
    return Ranks(place, watch)


def _met(place: Place) -> Store:
    if place.meeting:
        kept = FileStore(place.meeting, place.size)
        kept.set_timeout(timedelta(seconds=MEET_SECONDS))
        return kept
    store, _, _ = next(rendezvous("env://", place.rank, place.size, timeout=timedelta(seconds=MEET_SECONDS)))
    return cast(Store, store)


def _open(watch: Watch, place: Place, store: Store) -> None:
    if place.leads:
        store.set("tunesmith/watch", watch.listen(_own_address(place), place.size))
    else:
        watch.connect(_in_thread(lambda: store.get("tunesmith/watch")).decode())


def _initialise(place: Place, store: Store) -> None:
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    _choose_interface(place)
    dist.init_process_group(backend, store=store, rank=place.rank, world_size=place.size, timeout=FOREVER)


def _own_address(place: Place) -> str:
    """This machine's address on the way to where the ranks meet; nothing is sent."""
    family, kind, _, _, where = socket.getaddrinfo(place.address, place.port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as way:
        way.connect(where)
        return str(way.getsockname()[0])


def _choose_interface(place: Place) -> None:
    """Ranks that meet at a loopback address listen on it only, not on the network."""
    if ipaddress.ip_address(_own_address(place)).is_loopback:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")


def _in_thread(call: Callable[[], ResultT]) -> ResultT:
    """What `call` returns; meanwhile the main thread hears signals."""
    found: list[ResultT] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            found.append(call())
        except BaseException as error:  # raised again in the main thread
            failed.append(error)

    thread = threading.Thread(target=run, name="meeting", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.05)
    if failed:
        raise failed[0]
    return found[0]
