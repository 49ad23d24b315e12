"""Sequences of roles, checked once each: most files have few of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import xxhash

from tunesmith.rows.codes import CODES
from tunesmith.rows.findings import Fault
from tunesmith.rows.message_faults import PLAIN_ROLES, order_faults
from tunesmith.tokens import PER_EXAMPLE, PER_MESSAGE, PER_ROLE

MAX_MESSAGES = 4096  # longer conversations take the careful path; their shapes would not repeat


@dataclass(frozen=True, slots=True)
class Shape:
    """A sequence of roles and all that follows from it.

    `warnings` hold for every row of this shape. `seed` keeps digests of different role sequences apart.
    """

    roles: tuple[str, ...]
    warnings: tuple[Fault, ...]
    learned: tuple[bool, ...]
    overhead: int
    answer_at: int
    system_at: int
    seed: int


def shape_of(roles: tuple[object, ...]) -> Shape | None:
    """The shape of a plain chat row; None when the roles need the careful path."""
    names = tuple(role for role in roles if isinstance(role, str) and role in PLAIN_ROLES)
    if len(names) != len(roles) or "assistant" not in names or len(names) > MAX_MESSAGES:
        return None
    warnings = tuple(order_faults(list(names), "messages"))
    if any(CODES[fault.code].severity == "error" for fault in warnings):
        return None
    answer_at = max(index for index, role in enumerate(names) if role == "assistant")
    return Shape(
        roles=names,
        warnings=warnings,
        learned=tuple(role == "assistant" for role in names),
        overhead=PER_EXAMPLE + (PER_MESSAGE + PER_ROLE) * len(names),
        answer_at=answer_at,
        system_at=next((index for index, role in enumerate(names) if role in ("system", "developer")), -1),
        seed=roles_seed(names),
    )


def roles_seed(roles: tuple[str, ...]) -> int:
    """A digest of the roles, the same in every process and run."""
    return int(xxhash.xxh3_64_intdigest("\x1f".join(roles).encode()))


# 64 bits of one text; equal texts give equal bits in every process and run. Not for adversaries.
text_digest: Callable[[bytes], int] = xxhash.xxh3_64_intdigest


def digest(texts: Sequence[bytes], seed: int = 0) -> int:
    """63 bits and a sign of several texts."""
    return joint_digest((seed, *map(text_digest, texts)))


# Of the seed and each text's digest, so that no text is hashed twice, nor copied to be hashed. Python's hash of
# numbers is the same in every process; only that of text is not.
joint_digest = hash
