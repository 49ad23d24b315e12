"""What rows of token ids begin with alike, for the trainer and the prefix cache."""

from collections.abc import Sequence


def common_prefix(one: Sequence[int], other: Sequence[int], start: int = 0) -> int:
    """How many leading tokens are equal, given that the first `start` are.

    Both are lists, or both tuples.
    """
    low, high = start, min(len(one), len(other))
    while low < high:  # slices compare in C, so bisection beats a loop
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
