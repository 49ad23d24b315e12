"""Where the bars of a histogram are drawn, in the units of an SVG."""

from collections.abc import Sequence
from dataclasses import dataclass

NARROWEST = 1.0  # of a bar


@dataclass(frozen=True, slots=True)
class Box:
    """A bar's rectangle."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Plot:
    """The size of a drawing, and what its bars leave free for the axes' labels."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    gap: int  # between two bars

    @property
    def end(self) -> int:
        """Where the last bar ends."""
        return self.width - self.right

    @property
    def floor(self) -> int:
        """Where the bars stand."""
        return self.height - self.bottom

    def boxes(self, counts: Sequence[int]) -> list[Box]:
        """A bar for each count; the highest fills the height."""
        most = max(counts, default=0) or 1
        wide = (self.end - self.left) / max(1, len(counts))
        tall = [(self.floor - self.top) * count / most for count in counts]
        return [
            Box(
                x=round(self.left + at * wide, 2),
                y=round(self.floor - one, 2),
                width=round(max(NARROWEST, wide - self.gap), 2),
                height=round(one, 2),
            )
            for at, one in enumerate(tall)
        ]

    def across(self, value: float, edges: Sequence[float]) -> float:
        """Where a value is drawn between the first and the last edge."""
        low, high = edges[0], edges[-1]
        return round(self.left + (value - low) / max(high - low, 1e-9) * (self.end - self.left), 2)
