"""A run's sums while items are added to them."""

from collections.abc import Mapping

from tunesmith.store.evals.rows import Invocations, Saved, Totals

COUNTED = {"pass": "passed", "fail": "failed", "error": "errored"}


class Sums:
    """Rows by their end, criteria by what they said, and what models took."""

    def __init__(self, counts: Mapping[str, int] | None = None, totals: Totals | None = None) -> None:
        """Goes on from what was summed before."""
        self._counts = {name: (counts or {}).get(name, 0) for name in COUNTED.values()}
        self._totals = totals or Totals()
        self.spent: dict[str, Invocations] = {}  # by model, of the items added

    @property
    def done(self) -> int:
        """Rows that have ended."""
        return sum(self._counts.values())

    def add(self, one: Saved) -> None:
        """Adds what is new of an item."""
        for model, spent in one.spent.items():
            self.spent[model] = self.spent.get(model, Invocations()) + spent
        if one.state == "waiting":
            return
        self._counts[COUNTED[one.state]] += 1
        before = self._totals.criteria or ((0, 0),) * len(one.verdicts)
        criteria = tuple(
            (passed + (verdict is True), failed + (verdict is False))
            for (passed, failed), verdict in zip(before, one.verdicts, strict=True)
        )
        self._totals = Totals(criteria, self._totals.usage)

    def values(self) -> dict[str, object]:
        """The columns of the run."""
        usage = dict(self._totals.usage)
        for model, spent in self.spent.items():
            usage[model] = usage.get(model, Invocations()) + spent
        return {**self._counts, "totals": Totals(self._totals.criteria, usage).to_json()}
