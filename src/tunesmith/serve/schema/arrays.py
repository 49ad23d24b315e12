"""`contains` and `uniqueItems`, as a choice of arrays that are spelled out."""

import itertools
import math
from collections.abc import Iterator

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.serve.schema.facts import Facts, equal

PLACES = 4  # the first items among which one that is contained is looked for
MAX_ARRAYS = 330  # 5 different values have 326 arrangements


class NotSpelled(ValueError):
    """Too many arrays would have to be spelled; the end of a sentence."""


def containing(view: JsonObject) -> list[JsonObject]:
    """Arrays that contain what `contains` asks for, among their first items."""
    least, most = _count(view.get("minContains"), 1), _count(view.get("maxContains"), math.inf)
    if least == 0 and most == math.inf:
        return [{}]
    places = int(min(max(PLACES, least), _count(view.get("maxItems"), math.inf)))
    inside, outside = view["contains"], (True if most == math.inf else {"not": view["contains"]})
    found: list[JsonObject] = []
    for number in range(int(least), int(least if most == math.inf else min(most, places)) + 1):
        for chosen in itertools.combinations(range(places), number):
            items: list[JsonValue] = [
                inside if place in chosen else outside for place in range(max(chosen, default=-1) + 1)
            ]
            found.append({"prefixItems": items, "items": outside, "minItems": len(items)})
            if len(found) > MAX_ARRAYS:
                raise NotSpelled(f"'contains' is not supported for {number} items or more")
    return found


def distinct(view: JsonObject, facts: Facts) -> list[JsonObject]:
    """Arrays whose items differ. Raises NotSpelled for too many."""
    prefix = view.get("prefixItems")
    fixed = prefix if isinstance(prefix, list) else []
    rest = view.get("items", True)
    most = (
        _count(view.get("maxItems"), math.inf)
        if rest is not False
        else min(len(fixed), _count(view.get("maxItems"), math.inf))
    )
    if most <= 1:
        return [{}]
    if most <= len(fixed) and all(facts.exclude(*pair) for pair in itertools.combinations(fixed, 2)):
        return [{}]
    values = None if fixed else facts.values(rest)
    if values is None:
        raise NotSpelled("'uniqueItems' is supported only for items with a short 'enum', and at most one item")
    return [{"enum": list(_arranged(values, _count(view.get("minItems"), 0), most))}]


def _arranged(values: list[JsonValue], least: float, most: float) -> Iterator[JsonValue]:
    """Every order of different values; only the given order where those would be too many."""
    different: list[JsonValue] = []
    for value in values:
        if not any(equal(value, known) for known in different):
            different.append(value)
    sizes = range(int(least), int(min(most, len(different))) + 1)
    total = sum(math.perm(len(different), size) for size in sizes)
    if total <= MAX_ARRAYS:
        return (list(some) for size in sizes for some in itertools.permutations(different, size))
    if sum(math.comb(len(different), size) for size in sizes) <= MAX_ARRAYS:
        return (list(some) for size in sizes for some in itertools.combinations(different, size))
    raise NotSpelled(f"'uniqueItems' is not supported for {len(different)} different values")


def _count(value: JsonValue, default: float) -> float:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else default
