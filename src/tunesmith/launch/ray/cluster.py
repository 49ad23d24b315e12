"""Ray itself, as far as it is used: connecting, a job's actors, their calls."""

import logging
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, cast

from tunesmith.launch.ray.node import NodeTrainer
from tunesmith.launch.ray.order import MEMORY, OUTSIDE, Order, Part
from tunesmith.launch.ray.relay import Late, Lost
from tunesmith.settings import Resources
from tunesmith.train.protocol.events import SETUP

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorHandle
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

Answer = TypeVar("Answer")
CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 5.0  # of one call; a node that is busy may be late, and is asked again
CLOSE_SECONDS = 3.0
GIB = 1024**3
LEAST_CPU = 0.001  # of a job that asks for nothing
LOST_EARLY = "The node of the trainer was lost before it had started"
LOCAL_STORE_BYTES = 100 * 1024**2  # nothing large goes through Ray


class NoCluster(Exception):
    """The cluster does not answer, or not to us (`refuses`), and why."""

    def __init__(self, reason: str, *, refuses: bool = False) -> None:
        super().__init__(reason)
        self.refuses = refuses


def connect(order: Order) -> None:
    """Connects this process. Raises NoCluster."""
    _demand_listener(order.address)
    import ray

    local = order.address == "local"
    try:
        ray.init(
            address=order.address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            include_dashboard=False if local else None,
            object_store_memory=LOCAL_STORE_BYTES if local else None,
        )
    except Exception as error:  # Ray raises a dozen kinds, RuntimeError among them
        ray.shutdown()
        refuses = not local and order.address != "auto"
        raise NoCluster(f"{type(error).__name__}: {_words(error)}", refuses=refuses) from error


def disconnect(actors: "Sequence[Actor]") -> None:
    """Ends the actors and leaves the cluster; one that is gone is not waited for."""
    if "ray" not in sys.modules:
        return

    def close() -> None:
        import ray

        for actor in actors:
            actor.kill()
        ray.shutdown()

    closing = threading.Thread(target=close, name="disconnect", daemon=True)
    closing.start()
    closing.join(CLOSE_SECONDS)


@dataclass(frozen=True, slots=True)
class Actor:
    """The actor that starts the trainer. It ends with this process's connection."""

    handle: "ActorHandle[NodeTrainer]"

    def begin(self, order_text: str) -> Callable[[float], bool]:
        """Has the trainer started; the result waits up to so many seconds for it.

        It is true once that was done, and raises Lost where it cannot be.
        """
        import ray

        started: ObjectRef[str | None] = self.handle.start.remote(order_text)

        def wait(seconds: float) -> bool:
            done, _ = ray.wait([started], timeout=seconds)
            if not done:
                return False
            try:
                fault = _answer(started, ANSWER_SECONDS)
            except Late:  # it was not: the call is not made again
                raise Lost(OUTSIDE, LOST_EARLY) from None
            if fault is not None:
                raise Lost(SETUP, str(fault))
            return True

        return wait

    def arrival(self) -> Callable[[], bool]:
        """Asks it for a word; the result tells whether one has come, from its node."""
        import ray

        asked: ObjectRef[str] = self.handle.node.remote()
        return lambda: bool(ray.wait([asked], timeout=0)[0])

    def meeting(self, seconds: float) -> Callable[[], tuple[str, int] | None]:
        """Asks for a place where ranks meet.

        The result waits up to so many seconds for it. It is None until then, and raises Lost.
        """
        import ray

        asked: ObjectRef[tuple[str, int]] = self.handle.meeting.remote()

        def wait() -> tuple[str, int] | None:
            done, _ = ray.wait([asked], timeout=seconds)
            try:
                return _answer(asked, ANSWER_SECONDS) if done else None
            except Late:
                raise Lost(OUTSIDE, LOST_EARLY) from None

        return wait

    def read(self, events_from: int, log_from: int) -> Part:
        """Raises Late or Lost."""
        part: ObjectRef[tuple[bytes, bytes, int | None, bool]] = self.handle.read.remote(events_from, log_from)
        return Part(*_answer(part, ANSWER_SECONDS))

    def stop(self) -> None:
        """Asks it to end the trainer; `read` tells when that is done."""
        self.handle.stop.remote()

    def kill(self) -> None:
        """Ends the actor, and with it what it started."""
        import ray

        ray.kill(self.handle, no_restart=True)


def actors_of(order: Order) -> list[Actor]:
    """An actor for each node that the job needs, waiting for one with what it takes.

    Several wait until all of them have a node, each another one. Raises Lost for what Ray does not take at all.
    """
    try:
        return _actors(order)
    except (TypeError, ValueError) as error:
        text = f"Ray does not take the setting ray_runtime_env, or the job's resources: {_words(error)}"
        raise Lost(SETUP, text) from error


def _actors(order: Order) -> list[Actor]:
    if order.resources.nodes == 1:
        return [_actor(order, "DEFAULT")]
    from ray.util import placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    wanted = order.resources
    group = placement_group([bundle(wanted) for _ in range(wanted.nodes)], strategy="STRICT_SPREAD")
    places = (PlacementGroupSchedulingStrategy(group, index) for index in range(wanted.nodes))
    return [_actor(order, place) for place in places]


def bundle(wanted: Resources) -> dict[str, float]:
    """What is set aside on a node; Ray takes none that sets nothing aside."""
    given = {"CPU": wanted.cpus, "GPU": wanted.gpus, "memory": wanted.memory_gib * GIB}
    return {name: amount for name, amount in given.items() if amount} or {"CPU": LEAST_CPU}


def _actor(order: Order, place: "PlacementGroupSchedulingStrategy | str") -> Actor:
    import ray

    wanted = order.resources
    kind = ray.remote(NodeTrainer).options(
        num_cpus=wanted.cpus,
        num_gpus=wanted.gpus,
        memory=int(wanted.memory_gib * GIB) or None,
        max_restarts=0,
        max_concurrency=4,  # `read` and `stop` beside each other
        runtime_env=dict(order.runtime_env) or None,
        scheduling_strategy=place,
    )
    return Actor(cast("ActorHandle[NodeTrainer]", kind.remote()))


def totals() -> list[Mapping[str, float]]:
    """What each living node has in all."""
    import ray

    nodes = cast("Callable[[], list[dict[str, object]]]", ray.nodes)()
    return [cast("Mapping[str, float]", node["Resources"]) for node in nodes if node["Alive"]]


def _answer(reference: "ObjectRef[Answer]", seconds: float) -> Answer:
    import ray
    from ray import exceptions

    try:
        return ray.get(reference, timeout=seconds)
    except (exceptions.GetTimeoutError, exceptions.ActorUnavailableError) as error:
        raise Late from error
    except exceptions.RuntimeEnvSetupError as error:
        words = _words(error)
        raise Lost(SETUP, f"The setting ray_runtime_env cannot be had on the cluster's nodes: {words}") from error
    except exceptions.RayActorError as error:
        raise _lost(error) from error
    except exceptions.RayError as error:
        print(error, file=sys.stderr)  # noqa: T201  # the job's log
        raise Lost(OUTSIDE, f"The Ray cluster has lost the trainer ({type(error).__name__})") from error


def _lost(error: Exception) -> Lost:
    words = str(error)
    if "tunesmith" in words and ("ModuleNotFoundError" in words or "failed to be imported" in words):
        return Lost(
            SETUP,
            "The cluster's nodes have no Tunesmith. Use an image that has it, or the setting ray_runtime_env.",
        )
    if "running low on memory" in words:  # not "high memory usage", which Ray guesses of every process that is gone
        return Lost(MEMORY, "The node ran out of memory, and Ray ended the trainer")
    if "its node has died" in words:
        return Lost(OUTSIDE, "The node of the trainer was lost")
    return Lost(OUTSIDE, "The process on the node that watched the trainer was lost")


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _demand_listener(address: str) -> None:
    """Raises NoCluster where nobody listens: Ray itself would wait for a minute and end the process."""
    if address in ("auto", "local"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host == "localhost":
        host = "127.0.0.1"
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except OSError as error:
        raise NoCluster(error.strerror or str(error)) from error
