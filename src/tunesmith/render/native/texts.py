"""Comparing what a template wrote."""

SENTINEL = "\ufdd0"  # a noncharacter in the place of an answer's text


def common(one: str, other: str) -> int:
    """How many characters two texts have in common at their start; no mark is cut."""
    length = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    opened = max(one.rfind(bracket, 0, length) for bracket in "<[")
    inside = opened >= 0 and not any(closing in one[opened:length] for closing in ">] \n")
    return opened if inside else length
