"""What both kinds of linear layers share: pieces of work, and biases."""

from tunesmith.kernels.compiler import compiled
from tunesmith.kernels.elementwise import floats

MAX_PIECE_PANELS = 32  # of one piece of work


@compiled
def piece_panels(panels: int, threads: int) -> int:
    """How many panels of a matrix are a piece of work: three pieces a thread."""
    return min(max(-(-panels // (3 * threads)) // 2 * 2, 2), MAX_PIECE_PANELS)


@compiled
def add_bias(bias: int, count: int, rows: int, out: int, stride: int) -> None:
    """Adds `count` numbers to each of the rows at `out`, `stride` bytes apart."""
    numbers = floats(bias, count)
    for row in range(rows):
        sums = floats(out + row * stride, count)
        for i in range(count):
            sums[i] += numbers[i]
