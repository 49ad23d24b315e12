"""How the nodes of one job end, with nodes that say what they are told to."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from tunesmith.launch.ray import relay as relay_module
from tunesmith.launch.ray.order import MEMORY, OUTSIDE, Part
from tunesmith.launch.ray.relay import Late, Lost, Node, Relay

NOTHING = Part(b"", b"", None, False)
GONE = Lost(OUTSIDE, "The node of the trainer was lost")


def end(status: int, *, out_of_memory: bool = False) -> Part:
    return Part(b"", b"", status, out_of_memory)


@dataclass
class Scripted:
    """Answers what it is told, the last of it again and again."""

    answers: Sequence[Part | Exception]
    asked: list[tuple[int, int]] = field(default_factory=list)
    stops: int = 0

    def read(self, events_from: int, log_from: int) -> Part:
        answer = self.answers[min(len(self.asked), len(self.answers) - 1)]
        self.asked.append((events_from, log_from))
        if isinstance(answer, Exception):
            raise answer
        return answer

    def stop(self) -> None:
        self.stops += 1


def relay_of(*scripts: Sequence[Part | Exception], silence: float = 60) -> tuple[Relay, list[Scripted], list[bytes]]:
    actors, written = [Scripted(script) for script in scripts], []

    def write(part: Part) -> None:
        written.append(part.events + b"|" + part.log)

    return (
        Relay([Node(actor, silence) for actor in actors], write, lambda part: written.append(part.log)),
        actors,
        written,
    )


def test_of_all_nodes_the_log_comes_and_of_the_first_the_events() -> None:
    one, other = Part(b"event", b"log", None, False), Part(b"no event", b"other", None, False)
    relay, actors, written = relay_of([one, end(0)], [other, end(0)])
    assert (relay.step(), relay.moved) == (None, True)
    assert (relay.step(), relay.moved) == (0, False)
    assert written == [b"event|log", b"other", b"|", b""]
    assert [actor.asked for actor in actors] == [[(0, 0), (5, 3)], [(0, 0), (8, 5)]]


def test_the_loss_of_another_node_is_told_when_rank_0_has_saved() -> None:
    relay, actors, _ = relay_of([NOTHING, NOTHING, end(143)], [GONE])
    assert [relay.step(), relay.step()] == [None, None]
    with pytest.raises(Lost, match="node of the trainer was lost"):
        relay.step()
    assert len(actors[1].asked) == 1


def test_a_run_that_is_done_is_done_whatever_becomes_of_the_others() -> None:
    relay, _, _ = relay_of([NOTHING, end(0)], [GONE])
    assert [relay.step(), relay.step()] == [None, 0]


def test_the_loss_of_the_first_node_is_told_at_once() -> None:
    relay, _, _ = relay_of([GONE], [NOTHING])
    with pytest.raises(Lost, match="node of the trainer was lost"):
        relay.step()


@pytest.mark.parametrize(
    ("parts", "cause"),
    [
        ([end(-9)], OUTSIDE),
        ([end(-9, out_of_memory=True)], MEMORY),
        ([end(143), end(-9)], OUTSIDE),
        ([end(143), end(-9, out_of_memory=True)], MEMORY),
    ],
    ids=["killed", "memory", "other-killed", "other-memory"],
)
def test_a_killed_rank_is_told_from_want_of_memory(parts: list[Part], cause: str) -> None:
    relay, _, _ = relay_of(*([part] for part in parts))
    with pytest.raises(Lost) as lost:
        relay.step()
    assert lost.value.cause == cause


def test_a_failure_is_rank_0s_own() -> None:
    relay, _, _ = relay_of([end(1)], [end(143)])
    assert relay.step() == 1


def test_a_node_that_is_late_is_asked_again_until_its_silence_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    relay, actors, _ = relay_of([NOTHING], [Late(), NOTHING, Late()], silence=0.0)
    relay.nodes[1]._heard += 60
    assert (relay.step(), relay.late) == (None, True)
    assert (relay.step(), relay.late) == (None, False)
    monkeypatch.setattr(relay_module, "END_SECONDS", -1.0)
    assert (relay.step(), relay.late) == (None, False)  # given up
    assert [actor.stops for actor in actors] == [1, 0]  # rank 0 would wait for it
    relay.stop()
    assert [actor.stops for actor in actors] == [1, 0]
