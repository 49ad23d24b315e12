"""Small line charts as SVG, written by hand: no plotting library for four panels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 360, 250, 58, 14, 34, 44
COLOURS = ("#0b6e99", "#c2571a", "#4a7c2a")


@dataclass(frozen=True, slots=True)
class Panel:
    """Points by the name of their line; the horizontal axis counts in doublings, the vertical one from zero."""

    title: str
    across: str
    up: str
    lines: dict[str, Sequence[tuple[float, float]]]


def svg(panels: Sequence[Panel], columns: int = 2) -> str:
    rows = -(-len(panels) // columns)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {columns * WIDTH} {rows * HEIGHT}" '
        'font-family="sans-serif" font-size="11" fill="#222">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for index, panel in enumerate(panels):
        parts.append(f'<g transform="translate({index % columns * WIDTH} {index // columns * HEIGHT})">')
        parts += [*_panel(panel), "</g>"]
    return "\n".join([*parts, "</svg>\n"])


def _panel(panel: Panel) -> list[str]:
    xs = sorted({x for points in panel.lines.values() for x, _ in points})
    top = _round_up(max(y for points in panel.lines.values() for _, y in points))
    low, high = _doublings(xs[0]), _doublings(xs[-1])

    def across(x: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (_doublings(x) - low) / ((high - low) or 1)

    def up(y: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * y / top

    parts = [f'<text x="{LEFT}" y="16" font-size="13" font-weight="bold">{panel.title}</text>']
    parts += [f'<text x="{LEFT}" y="{TOP - 5}">{panel.up}</text>']
    parts += [f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{panel.across}</text>']
    for share in (0, 0.25, 0.5, 0.75, 1):
        y = up(top * share)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{top * share:,g}</text>')
    parts += [f'<text x="{across(x):.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{x:g}</text>' for x in xs]
    for index, (name, points) in enumerate(panel.lines.items()):
        colour = COLOURS[index % len(COLOURS)]
        path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="3" fill="{colour}"/>' for x, y in points]
        if len(panel.lines) > 1:
            place = TOP + 8 + 14 * index
            parts.append(f'<text x="{WIDTH - RIGHT - 4}" y="{place}" text-anchor="end" fill="{colour}">{name}</text>')
    return parts


def _doublings(x: float) -> float:
    """Zero stands one doubling left of 50."""
    return math.log2(x) if x > 0 else math.log2(25)


def _round_up(value: float) -> float:
    """To the next number whose quarters are round too."""
    power: float = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10) if step * power >= value)
