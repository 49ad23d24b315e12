"""Attempts to leave the jail, as bodies of `grade(sample, item)`, with what each comes to.

A body that gets through returns or raises what it got, which the test then sees. `item` tells the addresses: `port`,
`udp`, `unix`, `abstract`, `secret` (a file of the data directory), `outside` (its folder), `server` (a process id).
"""

from typing import NamedTuple


class Case(NamedTuple):
    """An attempt; `outcome` is "fault", "died", "late" or "score", `text` a pattern of what is told."""

    name: str
    body: str
    outcome: str = "fault"
    text: str = ""
    seconds: float = 20.0


DENIED = "PermissionError|Operation not permitted|Permission denied"
