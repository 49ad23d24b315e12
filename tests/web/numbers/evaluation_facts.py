"""What the pages of verdicts and evals must say, from the API's answers: labels with their numbers."""

from collections.abc import Iterator

from tests.web.numbers.spelling import Json, ends, p_of, points, share, t

from tunesmith.evals.runs.comparison import compare_shares, tabulate
from tunesmith.evals.statistics import Interval, wilson
from tunesmith.web.views.evaluations.verdict import CRITERION_KEYS, MEASURE_KEYS


def verdict_facts(found: Json) -> Iterator[str]:
    """Of a verdict's page: its file."""
    yield f"{t('evaluations.rows')} {found['rows']} · {t('evaluations.left_out', n=len(found['left_out']))}"
    for one in found["criteria"]:
        yield from _criterion(one)
    reach = max(abs(end) for one in found["criteria"] for end in (one["difference"]["low"], one["difference"]["high"]))
    yield t("evaluations.drawn_change", n=round(100 * reach))
    yield from _measures(found)
    yield from _forgetting(found["forgetting"])
    before, after = found["sides"]
    for name, key in (("prompt_tokens", "prompt_tokens"), ("completion_tokens", "answer_tokens")):
        yield f"{t(f'evaluations.{key}')} {before[name]:,} {after[name]:,}"
    for name in ("refusals", "cut"):
        yield f"{t(f'evaluations.{name}')} {before[name]} {after[name]}"
    yield f"{t('evaluations.median_seconds')} {before['median_seconds']:.2f} s {after['median_seconds']:.2f} s"
    leaks = found["leaks"]
    yield t("evaluations.leaked", exact=leaks["exact"], near=leaks["near"], rows=leaks["validation_rows"])
    yield from _flips(found)


def _criterion(one: Json) -> Iterator[str]:
    yield t(f"criterion.{CRITERION_KEYS[one['name']]}")
    for side in ("before", "after"):
        yield f"{share(one[side]['value'])} {ends(one[side])}"
    yield points(one["difference"])
    yield p_of(one["p"])
    yield t("evaluations.on_rows", n=one["rows"])
    if table := one.get("table"):
        yield " ".join(str(table[part]) for part in ("both", "gained", "lost", "neither"))
    if one["decides"] and table:
        yield f"{t('evaluations.before_right')} {table['both']} {t('evaluations.both')} {table['lost']} − "
        yield f"{t('evaluations.before_wrong')} {table['gained']} + {t('evaluations.gained')} {table['neither']}"


def _measures(found: Json) -> Iterator[str]:
    for one in (found["loss"], *found["measures"]):
        change = one["difference"]
        yield (
            f"{t('measure.' + MEASURE_KEYS[one['name']])} {p_of(one['p'])} {one['before']:.2f} {one['after']:.2f} "
            f"{change['value']:+.2f} {change['low']:+.2f} … {change['high']:+.2f}"
        )
    doubt = found["loss"]["perplexity"]
    yield f"{t('measure.perplexity')} {doubt['before']:.2f} {doubt['after']:.2f}"


def _forgetting(one: Json) -> Iterator[str]:
    change = points(one["difference"]).replace(" ", ", ", 1)
    rows = t("evaluations.on_rows", n=one["rows"])
    yield f"{share(one['before'])} → {share(one['after'])} ({change}; {p_of(one['p'])}; {rows})"
    for kind in one["kinds"]:
        yield f"{t('general.' + kind['kind'])} {kind['rows']} {kind['before']} {kind['after']}"


def _flips(found: Json) -> Iterator[str]:
    """Of the criterion that decides: the first eight answers that were gained."""
    table = found["criteria"][0]["table"]
    for kind, count in (
        ("gained", table["gained"]),
        ("lost", table["lost"]),
        ("same", table["both"] + table["neither"]),
    ):
        yield f"{t(f'flip.{kind}')} ({count})"
    yield t("flips.page", page=1, pages=-(-table["gained"] // 8))
    right = [
        [one[side]["text"] == one["reference"]["text"] for side in ("before", "after")] for one in found["samples"]
    ]
    gained = [one for one, sides in zip(found["samples"], right, strict=True) if sides == [False, True]]
    for one in gained[:8]:
        yield t("flips.row", n=one["line"])
        yield t("flips.earlier", n=len(one["messages"]) - 1)
        for side, score in (("before", 0), ("after", 100)):
            cost = f"{t('flips.tokens', n=one[side]['completion_tokens'])} · {one[side]['seconds']:.2f} s"
            yield f"{t(f'evaluations.{side}')} {score} % {cost}"


def runs_facts(runs: list[Json]) -> Iterator[str]:
    """Of an eval's page: what each run passed."""
    for run in runs:
        yield from grader_facts(run)
        yield f"{run['result_counts']['passed']} {run['result_counts']['total']} @{run['created_at']}"


def grader_facts(run: Json) -> Iterator[str]:
    """Of a run's criteria."""
    for one in run["per_testing_criteria_results"]:
        of = wilson(one["passed"], one["passed"] + one["failed"])
        said = f"{one['passed']} / {one['passed'] + one['failed']} · {share(of.value)}"
        yield f"{one['testing_criteria']} {said} {100 * of.low:.1f} – {100 * of.high:.1f}"


def run_facts(run: Json, items: list[Json]) -> Iterator[str]:
    """Of a run's page: its sums and its first rows."""
    yield from grader_facts(run)
    for name in ("passed", "failed", "errored", "total"):
        yield f"{t(f'run_count.{name}')} {run['result_counts'][name]}"
    for one in items:
        said = f"{t('flips.row', n=one['datasource_item_id'] + 1)} {t('item_status.' + one['status'])}"
        yield said
        for result in one["results"]:
            yield f"{'✓' if result['passed'] else '✗'} {result['name']} {result['score']:.2f}"


def compared_facts(sides: list[dict[int, Json]]) -> Iterator[str]:
    """Of two runs compared: their items by row."""
    rows = sorted(sides[0].keys() & sides[1].keys())
    yield f"{t('evaluations.same_rows')} {len(rows)}"
    passed = [[side[row]["status"] == "pass" for row in rows] for side in sides]
    changed = [row + 1 for row, old, new in zip(rows, *passed, strict=True) if new and not old]
    lost = sum(old and not new for old, new in zip(*passed, strict=True))
    yield f"{t('flip.gained')} ({len(changed)})"
    yield f"{t('flip.lost')} ({lost})"
    for row in changed:
        yield t("flips.row", n=row)
    reach = 0.05  # at least
    for name in ("", "same", "short"):
        found = [[_passed(side[row], name) for row in rows] for side in sides]
        one = compare_shares(tabulate(*found))
        assert one.table is not None
        reach = max(reach, abs(one.difference.low), abs(one.difference.high))
        before, after, change = _of(one.before), _of(one.after), _of(one.difference)
        tuned = f"{t('evaluations.after')}: → {share(after['value'])} {ends(after)}"
        yield f"{share(before['value'])} {ends(before)} {tuned}"
        counts = (one.table.both, one.table.gained, one.table.lost, one.table.neither)
        yield f"{points(change)} {' '.join(map(str, counts))}"
        yield p_of(one.p)
    yield t("evaluations.drawn_change", n=round(100 * reach))


def _of(one: Interval) -> Json:
    return {"value": one.value, "low": one.low, "high": one.high}


def _passed(item: Json, name: str) -> bool:
    if not name:
        return bool(item["status"] == "pass")
    return any(one["passed"] for one in item["results"] if one["name"] == name)
