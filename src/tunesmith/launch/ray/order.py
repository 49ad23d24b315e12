"""What the worker tells the connecting process, and that a node: no secrets."""

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue, TypeAdapter

from tunesmith.launch.ranks import Team
from tunesmith.settings import Resources
from tunesmith.system.atomic_write import write_atomically

OUTSIDE, MEMORY = "outside", "memory"  # causes of an interruption, beside `SETUP`


@dataclass(frozen=True, slots=True)
class Bucket:
    """Where jobs' files come from, and go to, for nodes without the data directory."""

    url: str
    endpoint: str | None
    gib: float  # the most that a node keeps of it
    node_dir: Path


@dataclass(frozen=True, slots=True)
class Order:
    """One attempt of a job on the cluster.

    Paths are the worker's, but for `bucket.node_dir`.
    """

    address: str
    data_dir: Path
    spec: Path
    lock: Path
    module: str
    version: str  # of Tunesmith
    nice: int
    idle: bool
    ranks: int  # of each node
    resources: Resources
    runtime_env: dict[str, JsonValue]
    silence: float  # seconds without the worker after which a node ends the trainer: its lease is over then
    status: Path  # holds the trainer's exit status once all it wrote is handed on
    bucket: Bucket | None = None

    def write(self, path: Path) -> None:
        """Writes the order where `read` finds it."""
        write_atomically(path, _ORDERS.dump_json(self))

    @classmethod
    def read(cls, path: Path) -> "Order":
        """Reads what `write` wrote."""
        return _ORDERS.validate_json(path.read_bytes())


_ORDERS = TypeAdapter(Order)


@dataclass(frozen=True, slots=True)
class NodeOrder:
    """What a node is told: start the trainer of `spec`."""

    spec: str  # the text of the file, whose paths the node may have to change
    spec_path: Path
    lock: Path
    module: str
    version: str
    nice: int
    idle: bool
    ranks: int
    threads: int  # for a spec that leaves them open
    gpus: bool
    silence: float
    data_dir: Path
    bucket: Bucket | None
    inputs: "dict[str, Input]"
    team: Team | None = None  # where several nodes train the job

    @property
    def number(self) -> int:
        """Which of the job's nodes this is, from 0, where rank 0 reports and writes."""
        return 0 if self.team is None else self.team.machine

    def to_json(self) -> str:
        """As text, so that a node of another version can refuse it in words."""
        return _NODE_ORDERS.dump_json(self).decode()

    @classmethod
    def from_json(cls, text: str) -> "NodeOrder":
        """Reads what `to_json` made."""
        return _NODE_ORDERS.validate_json(text)


@dataclass(frozen=True, slots=True)
class Input:
    """Where a node finds what a path of the spec names.

    `kind` is file, folder (of a base), or model.
    """

    kind: str
    key: str  # in the bucket
    path: str  # the worker's
    size: int = 0
    digest: str = ""  # SHA-256 of a file, the mark of a base


_NODE_ORDERS = TypeAdapter(NodeOrder)


@dataclass(frozen=True, slots=True)
class Part:
    """What a node has to hand on since it was last asked."""

    events: bytes
    log: bytes
    status: int | None  # of the trainer; then nothing more comes after these bytes
    out_of_memory: bool  # the node's kernel has killed a process meanwhile, for want of memory

    def is_last(self) -> bool:
        """Whether the trainer has ended and all is handed on."""
        return self.status is not None and not self.events and not self.log


def order_version(text: str) -> str:
    """The version in a node's order, whatever else another version's order may hold."""
    return str(json.loads(text).get("version"))
