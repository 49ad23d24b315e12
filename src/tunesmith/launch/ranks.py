"""The ranks of one run as one trainer.

They are children of this process; rank 0 reports. They meet through a file beside the spec, and talk over loopback: no
port is open to others. Where other machines have ranks of the run too (`Team`), all meet at a port of the first one.
"""

import os
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from tunesmith.launch.child import ChildLauncher, ChildTrainer
from tunesmith.launch.protocol import Start, Trainer
from tunesmith.train.protocol.environment import MEETING_FILE
from tunesmith.train.protocol.exit_status import STOPPED

END_SECONDS = 120.0  # from the failure of one rank to the end of all; a rank that knows of it ends by itself


@dataclass(frozen=True, slots=True)
class Team:
    """Machines that train one run together, and which of them this is, from 0.

    Each has as many ranks. They meet at `address`:`port`, where rank 0, on the first one, listens.
    """

    machines: int
    machine: int
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class RanksLauncher:
    """Starts `ranks` child processes for each trainer.

    With a `team` they are those of one of its machines.
    """

    ranks: int
    child: ChildLauncher = field(default_factory=ChildLauncher)
    team: Team | None = None

    def start(self, start: Start) -> Trainer:
        """Starts all of them; one is a trainer as `ChildLauncher` starts it."""
        if self.ranks == 1 and self.team is None:
            return self.child.start(replace(start, environment={**_given(start), "WORLD_SIZE": "1"}))
        meeting = start.spec.with_name(f"{start.spec.stem}-ranks-{secrets.token_hex(8)}")
        running: list[ChildTrainer] = []
        try:
            for one in self._starts(start, meeting):
                running.append(self.child.start(one))  # noqa: PERF401  # those that run are stopped where the next fails
        except BaseException:
            _stop(running, meeting)
            raise
        return RankedTrainer(running, meeting)

    def _starts(self, start: Start, meeting: Path) -> list[Start]:
        team = self.team
        if team is None:
            where = {MEETING_FILE: str(meeting)}
        else:
            where = {MEETING_FILE: "", "MASTER_ADDR": team.address, "MASTER_PORT": str(team.port)}
        given = {**_given(start), **where, "WORLD_SIZE": str(self.ranks * (team.machines if team else 1))}
        first = team.machine * self.ranks if team else 0
        return [
            _of_rank(replace(start, environment=given), first + local, local, self.ranks) for local in range(self.ranks)
        ]


@dataclass(slots=True)
class RankedTrainer:
    """The children, in the order of their ranks."""

    ranks: list[ChildTrainer]
    meeting: Path
    clock: Callable[[], float] = time.monotonic
    _failed_at: float | None = None

    def poll(self) -> int | None:
        """See `Trainer.poll`: the first rank's status, once all have ended.

        Where that one ended because another was killed, that one's: the kernel may have done so for want of memory.
        """
        found = [rank.poll() for rank in self.ranks]
        ended = [status for status in found if status is not None]
        if len(ended) == len(found):
            killed = [status for status in ended if status < 0]
            return killed[0] if killed and ended[0] == STOPPED else ended[0]
        if any(found):
            self._failed_at = self._failed_at or self.clock()
            if self.clock() - self._failed_at > END_SECONDS:
                self.stop()
        return None

    def stop(self) -> None:
        """See `Trainer.stop`. The others end with rank 0, which saves the progress."""
        _stop(self.ranks, self.meeting)


def _of_rank(start: Start, rank: int, local: int, local_size: int) -> Start:
    places = {"RANK": rank, "LOCAL_RANK": local, "LOCAL_WORLD_SIZE": local_size}
    own = replace(start, environment={**_given(start), **{name: str(value) for name, value in places.items()}})
    if rank == 0:
        return own
    return replace(own, events=start.log, lock=start.lock.with_name(f"{start.lock.name}-{rank}"))


def _given(start: Start) -> Mapping[str, str]:
    """The environment without a change; it may name the worker's own place in something else."""
    return os.environ if start.environment is None else start.environment


def _stop(ranks: list[ChildTrainer], meeting: Path) -> None:
    for rank in ranks:
        rank.stop()
    meeting.unlink(missing_ok=True)
