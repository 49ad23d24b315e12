"""Everything about one evaluation at the end of a job, as a JSON file."""

import json
from dataclasses import asdict, dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import cast

from tunesmith.errors import InvalidRequest
from tunesmith.estimate.verdict_time import MOST_ROWS, TIME_SHARE
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.system.atomic_write import write_atomically

ENGINE_SETTINGS = {
    "data_dir",
    "cache_dir",
    "serve_compiled",
    "serve_weights",
    "serve_matmul_precision",
    "serve_threads",
    "serve_prompt_lookup",
    "serve_cache_mib",
    "serve_adapter_mib",
    "chat_running",
    "chat_waiting",
}  # those that an engine reads


@dataclass(frozen=True, slots=True)
class SideSpec:
    """One side: weights, and an adapter on them where it has one.

    `digest`: of the tuned weights that must answer, "none" for a base.
    """

    name: str
    base_dir: Path
    adapter_dir: Path | None
    digest: str


@dataclass(frozen=True, slots=True)
class VerdictSpec:
    """Which rows both sides answer, and where it is written."""

    before: SideSpec
    after: SideSpec
    rows_file: Path
    rows_sha256: str
    training_file: Path | None  # compared with the rows for leaks
    journal: Path
    result: Path
    settings: JsonObject  # the server's `ENGINE_SETTINGS`
    rows: int = MOST_ROWS  # answers at most
    seconds: float = 60.0  # the time it may take; a few rows are asked however long they take
    held_out: bool = False  # whether the rows are a share of the training file

    def key(self) -> str:
        """Changes with whatever makes the answers of an earlier attempt useless."""
        parts = [self.before.digest, self.after.digest, self.rows_sha256, str(self.rows)]
        return sha256(" ".join(parts).encode()).hexdigest()

    def share(self, seconds: float) -> float:
        """The part of the job's time, 0 to 1, that an evaluation of so many seconds is."""
        trained = self.seconds * (1 - TIME_SHARE) / TIME_SHARE
        return seconds / (trained + seconds)

    def write(self, path: Path) -> None:
        """Writes the spec where `read` finds it."""
        write_atomically(path, json.dumps(asdict(self), default=str, ensure_ascii=False, indent=2).encode())

    @classmethod
    def read(cls, path: Path) -> "VerdictSpec":
        """Raises InvalidRequest where the file is no such spec."""
        try:
            return _spec(json.loads(path.read_bytes()))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InvalidRequest(f"The spec {path} of an evaluation cannot be read: {error!r}") from error


def _spec(value: JsonObject) -> VerdictSpec:
    given: dict[str, object] = {item.name: value[item.name] for item in fields(VerdictSpec) if item.name in value}
    for name in ("rows_file", "training_file", "journal", "result"):
        given[name] = None if value[name] is None else Path(str(value[name]))
    return VerdictSpec(**{**given, "before": _side(value["before"]), "after": _side(value["after"])})  # type: ignore[arg-type]  # written by `write`


def _side(value: JsonValue) -> SideSpec:
    side = cast(JsonObject, value)
    adapter = side["adapter_dir"]
    return SideSpec(
        str(side["name"]),
        Path(str(side["base_dir"])),
        None if adapter is None else Path(str(adapter)),
        str(side["digest"]),
    )
