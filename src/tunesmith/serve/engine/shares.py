"""How projects share a base model.

Whose request starts next, who makes room for it, and how prompts share a step.

A slot goes to the project with the fewest running sequences; among equals they take turns. A project that waits takes
slots from the greediest one until the two are level, whatever the length of what runs, so that nobody waits for
another's long answer. Where there are more projects than slots, a slot changes hands after `SLICE` tokens. With one
project nothing of this happens.

What runs in the background, under a project's name of its own, comes after all of this: it gets the slots that nobody
else waits for, and gives them back.

A sequence that has to go keeps its tokens and its sampler, and continues later as if nothing had happened. Pure
bookkeeping; see `scheduler`, which acts on it.
"""

from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

SLICE = 64  # tokens that a sequence may generate before a project without any slot takes its place
READ_PER_TOKEN = 4  # and one more for so many prompt tokens, which may have to be read again


class Holder(Protocol):
    """A running sequence."""

    tokens: list[int]

    @property
    def project(self) -> str:
        """Whose it is."""
        ...

    @property
    def background(self) -> bool:
        """Whether nobody waits for it."""
        ...

    @property
    def slice(self) -> tuple[int, int]:
        """Tokens that it read and generated since it got its slot."""
        ...


HolderT = TypeVar("HolderT", bound=Holder)


def next_project(
    waiting: Iterable[str], running: Sequence[Holder], passed: Container[str], last: Container[str] = ()
) -> str | None:
    """The project that gets the next slot; the first of those with the fewest.

    `last`: those whose requests run in the background.
    """
    counts = _counts(running)
    left = (project for project in waiting if project not in passed)
    return min(left, key=lambda one: (one in last, counts[one]), default=None)


def room_makers(
    project: str, running: Sequence[HolderT], fits: Callable[[Sequence[HolderT]], bool], *, background: bool = False
) -> list[HolderT] | None:
    """The sequences that have to go so that `fits` holds for the rest.

    None if that cannot be had in fairness. `background`: the project's request runs there.
    """
    left, gone = [*running], []
    while not fits(left):
        behind = [one for one in left if one.background]
        if behind and not background:
            longest: HolderT | None = max(behind, key=_length)
        else:
            longest = _longest_of_greediest(project, behind if background else left)
        if longest is None:
            return None
        left.remove(longest)
        gone.append(longest)
    return gone


def first_to_leave(running: Sequence[HolderT]) -> HolderT:
    """Which sequence goes when keys and values outgrow their memory.

    The youngest of the greediest project.
    """
    running = [one for one in running if one.background] or running
    counts = _counts(running)
    most = max(counts.values())
    return next(sequence for sequence in reversed(running) if counts[sequence.project] == most)


def split(needs: Mapping[str, int], budget: int) -> dict[str, int]:
    """The tokens of a step for each project's prompts.

    Equal parts; what one does not need is the others'.
    """
    parts = {}
    for left, (project, need) in zip(range(len(needs), 0, -1), sorted(needs.items(), key=_by_need), strict=True):
        parts[project] = min(need, -(-budget // left))
        budget -= parts[project]
    return parts


def _longest_of_greediest(project: str, running: Sequence[HolderT]) -> HolderT | None:
    counts = _counts(running)
    most = max((count for other, count in counts.items() if other != project), default=0)
    ripe = [one for one in running if one.project != project and counts[one.project] == most]
    if most < counts[project] + 2:
        ripe = [one for one in ripe if not counts[project] and _used_its_slice(one)]
    return max(ripe, key=_length, default=None)


def _length(one: Holder) -> int:
    return len(one.tokens)


def _used_its_slice(sequence: Holder) -> bool:
    read, generated = sequence.slice
    return generated >= SLICE + read // READ_PER_TOKEN


def _counts(running: Sequence[Holder]) -> Counter[str]:
    return Counter(sequence.project for sequence in running)


def _by_need(pair: tuple[str, int]) -> int:
    return pair[1]
