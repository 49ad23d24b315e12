"""The worker's side: a launcher for a Ray cluster. It imports no Ray."""

import importlib.util
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tunesmith import __version__
from tunesmith.errors import InvalidRequest
from tunesmith.launch.child import TRAINER_MODULE, ChildLauncher, ChildTrainer
from tunesmith.launch.protocol import Start, Trainer
from tunesmith.launch.ray.order import OUTSIDE, Bucket, Order
from tunesmith.settings import Resources, Settings
from tunesmith.system.python import without_keys
from tunesmith.train.protocol.events import Interrupted
from tunesmith.train.protocol.exit_status import STOPPED

CONNECTING_MODULE = "tunesmith.launch.ray"
STOP_SECONDS = 13.0  # of the connecting process: the trainer has 10 of them, and the worker's own end takes 15
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # Ray's way to listen on loopback alone, on Linux too


def check_launcher(settings: Settings) -> None:
    """Raises InvalidRequest where the setting `launcher` cannot work on this machine."""
    if settings.launcher == "child":
        return
    needed = ["ray", "grpc"] if settings.launcher.startswith("ray://") else ["ray"]
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise InvalidRequest(
            f"Setting launcher: {settings.launcher} needs Ray, which is not installed here: pip install"
            " 'ray[client]==2.60.*', the version of the cluster's nodes; or set launcher to child."
        )
    if settings.ray_node_dir is not None and settings.storage is None:
        raise InvalidRequest(
            "Setting ray_node_dir: jobs' files come to the nodes through object storage: set storage to a bucket, or"
            " give all nodes the data directory and unset ray_node_dir."
        )
    if settings.ray_node_dir is not None and not settings.ray_node_dir.is_absolute():
        raise InvalidRequest(f"Setting ray_node_dir: {settings.ray_node_dir} is not an absolute path.")


@dataclass(frozen=True, slots=True)
class RayLauncher:
    """Starts trainers on the cluster that the settings name.

    `environment`: of the worker, without its secret settings. What Ray and the object storage need is taken from it.
    `module` is what a trainer runs; only tests name another.
    """

    settings: Settings
    environment: Mapping[str, str]
    module: str = TRAINER_MODULE

    def start(self, start: Start) -> Trainer:
        """Starts the process that is connected to the cluster, and returns at once."""
        order = self._order(start)
        path = start.spec.with_suffix(".ray.json")
        order.write(path)
        child = ChildLauncher(CONNECTING_MODULE, stop_seconds=STOP_SECONDS).start(
            replace(
                start,
                spec=path,
                lock=start.lock.with_name(f"{start.lock.name}-ray"),
                nice=0,
                idle=False,
                environment=self._environment(),
            )
        )
        return RayTrainer(child, order.status, start.events)

    def _order(self, start: Start) -> Order:
        settings = self.settings
        resources = start.resources or Resources.model_validate({})
        bucket = None
        if settings.ray_node_dir is not None and settings.storage is not None:
            endpoint, gib = settings.storage_endpoint, settings.storage_cache_gib
            bucket = Bucket(settings.storage, endpoint, gib, settings.ray_node_dir)
        return Order(
            address=settings.launcher,
            data_dir=settings.paths.root,
            spec=start.spec,
            lock=start.lock,
            module=self.module,
            version=__version__,
            nice=start.nice,
            idle=start.idle,
            ranks=resources.ranks_of_node(settings.train_ranks),
            resources=resources,
            runtime_env=dict(settings.ray_runtime_env),
            silence=settings.lease_seconds,
            status=start.spec.with_suffix(".status"),
            bucket=bucket,
        )

    def _environment(self) -> dict[str, str]:
        """Keys only where they are for the cluster or the bucket; Ray's reports of its use to its makers are off."""
        kept = self.environment if self.settings.ray_node_dir else without_keys(self.environment)
        ray = {name: value for name, value in self.environment.items() if name.startswith("RAY_")}
        given = {"RAY_USAGE_STATS_ENABLED": "0", **kept, **ray}
        if self.settings.launcher == "local":
            given |= LOOPBACK
            if "RAY_AUTH_MODE" not in given:
                given |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        return given


@dataclass(slots=True)
class RayTrainer:
    """A trainer on the cluster, as the process that is connected to it."""

    child: ChildTrainer
    status: Path  # where that process says how the trainer ended
    events: Path
    _said: int | None = None

    def poll(self) -> int | None:
        """See `Trainer.poll`; a process that ends without a word has lost its trainer."""
        if self._said is None and self.child.poll() is not None:
            self._said = self._read()
        return self._said

    def stop(self) -> None:
        """See `Trainer.stop`."""
        self.child.stop()

    def _read(self) -> int:
        try:
            return int(self.status.read_text())
        except (FileNotFoundError, ValueError):
            lost = Interrupted(OUTSIDE, "The connection to the Ray cluster was lost")
            with self.events.open("ab") as file:
                file.write(b"\n" + json.dumps(lost.to_json()).encode() + b"\n")
            return STOPPED
