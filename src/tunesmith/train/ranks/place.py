"""Which of a run's ranks this process is, from the environment that torchrun sets.

Imports no torch.
"""

import socket
from collections.abc import Mapping
from dataclasses import dataclass

from tunesmith.errors import InvalidRequest
from tunesmith.train.protocol.environment import MEETING_FILE

MOST_RANKS = 4096
PORTS = 1 << 16


@dataclass(frozen=True, slots=True)
class Place:
    """A rank among `size` ranks, from 0.

    On its machine it is `local_rank` among `local_size`. The ranks meet at `address`:`port`, where rank 0 or torchrun
    listens, or in the file `meeting` of one machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    address: str = "127.0.0.1"
    port: int = 0
    meeting: str = ""  # a file through which they meet instead

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Place":
        """The place that RANK, WORLD_SIZE and so on name; without WORLD_SIZE the only one.

        Raises InvalidRequest naming a variable that is missing or out of range.
        """
        if "WORLD_SIZE" not in environment:
            return cls()
        size = _number(environment, "WORLD_SIZE", 1, MOST_RANKS)
        if size == 1:
            return cls()
        rank = _number(environment, "RANK", 0, size - 1)
        local_size = _number(environment, "LOCAL_WORLD_SIZE", 1, size, size)
        local_rank = _number(environment, "LOCAL_RANK", 0, local_size - 1, min(rank, local_size - 1))
        if environment.get(MEETING_FILE):
            return cls(rank, size, local_rank, local_size, meeting=environment[MEETING_FILE])
        address = environment.get("MASTER_ADDR") or "127.0.0.1"
        return cls(rank, size, local_rank, local_size, address, _number(environment, "MASTER_PORT", 1, PORTS - 1))

    @property
    def leads(self) -> bool:
        """Whether this is rank 0, which reports and writes."""
        return self.rank == 0

    @property
    def meets_at(self) -> str:
        """For sentences about where the ranks meet."""
        return self.meeting or f"{self.address}:{self.port}"

    @property
    def name(self) -> str:
        """For sentences about this rank: "rank 1 of 2 on HOST"."""
        return f"rank {self.rank} of {self.size} on {socket.gethostname()}"


ALONE = Place()


def _number(environment: Mapping[str, str], name: str, least: int, most: int, default: int | None = None) -> int:
    given = environment.get(name)
    if given is None and default is not None:
        return default
    if given is None or not (given.isascii() and given.isdigit() and least <= int(given) <= most):
        found = "not set" if given is None else f"{given!r}"
        raise InvalidRequest(
            f"The environment variable {name} is {found}; with several ranks it has to be a number from {least} to "
            f"{most}. Start the ranks with `torchrun --nproc-per-node N -m tunesmith.train SPEC.json`, which sets it.",
            param=name,
            code="invalid_rank",
        )
    return int(given)
