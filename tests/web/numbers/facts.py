"""What pages of jobs, files and the organisation must say, from the API's answers: labels with their numbers."""

import time
from collections.abc import Iterator

from tests.web.numbers.spelling import Json, t

from tunesmith.estimate.prices import DEFAULT_MODEL, Price, dollars, require_price, usage_cost
from tunesmith.store.rows import COUNTERS, Counts
from tunesmith.web.formats import size
from tunesmith.web.views.organization.usage import counts_of

TIME_LEFT = "2 h 5 min"
CURVES = ("train_loss", "valid_loss", "train_mean_token_accuracy", "valid_mean_token_accuracy")


def job_facts(job: Json, steps: list[Json], checkpoints: list[Json]) -> Iterator[str]:
    """Of a job that trains; `steps`: the data of its events, oldest first."""
    newest, total = steps[-1], steps[-1]["total_steps"]
    yield f"{t('job.step')} {newest['step']:,} / {total:,}"
    yield f"{t('jobs.progress')} {100 * newest['step'] / total:.0f} %"
    yield f"{newest['step'] / total} of 1"
    yield f"{t('job.epoch')} {newest['epoch']} / {job['hyperparameters']['n_epochs']}"
    yield f"{t('curve.train_loss')} {newest['train_loss']:.3f}"
    yield f"{t('curve.valid_loss')} {newest['valid_loss']:.3f}"
    yield f"{t('curve.train_mean_token_accuracy')} {100 * newest['train_mean_token_accuracy']:.1f} %"
    for one in steps:
        values = [f"{one[name]:.3f}" if "loss" in name else f"{100 * one[name]:.1f} %" for name in CURVES]
        yield " ".join((f"{one['step']}", *values))
    for name in CURVES:
        yield _sentence(name, [(one["step"], one[name]) for one in steps])
    for name, value in job["hyperparameters"].items():
        yield f"{name} {value:g}"
    yield f"seed {job['seed']}"
    yield f"{t('job.time_left')} {TIME_LEFT}"
    for one in checkpoints:
        metrics = one["metrics"]
        yield f"{one['step_number']} {metrics['train_loss']:.3f} {metrics['full_valid_loss']:.3f}"
        yield t("job.ask_step", step=one["step_number"])
        yield t("job.compare_step", step=one["step_number"])


def _sentence(name: str, points: list[tuple[int, float]]) -> str:
    """The sentence of a curve, for those who do not see it."""
    is_share = "accuracy" in name
    best = (max if is_share else min)(points, key=lambda one: one[1])
    said = [f"{100 * value:.1f} %" if is_share else f"{value:.3f}" for _, value in (points[0], points[-1], best)]
    values = {"first": said[0], "last": said[1], "best": said[2]}
    steps = {"first_step": points[0][0], "last_step": points[-1][0], "best_step": best[0]}
    return t("job.curve_high" if is_share else "job.curve_low", **values, **steps)


def compared_jobs(one: Json, steps: list[Json], other: Json) -> Iterator[str]:
    """Of a job that trains beside one that has no step."""
    newest = steps[-1]
    yield f"{t('job.step')} {newest['step']:,} / {newest['total_steps']:,} 0"
    yield f"{t('curve.train_loss')} {newest['train_loss']:.3f} –"
    yield f"{t('compare.lowest_valid')} {min(step['valid_loss'] for step in steps):.3f} –"
    yield f"{t('curve.train_mean_token_accuracy')} {100 * newest['train_mean_token_accuracy']:.1f} % –"
    for name, value in one["hyperparameters"].items():
        yield f"{name} {value:g} {other['hyperparameters'][name]:g}"


def line_facts(steps: list[Json]) -> Iterator[str]:
    """Of a job that trains and has two hours to go, in a list."""
    newest = steps[-1]
    said = t("jobs.step_of", step=newest["step"], total=newest["total_steps"])
    yield f"{said} · {t('jobs.left', span=TIME_LEFT)}"
    yield f"{newest['step'] / newest['total_steps']} of 1"


def file_facts(file: Json, report: Json) -> Iterator[str]:
    """Of a file's page: its report."""
    first = report["errors"][0]
    at = t("file.line", line=first["line"]) + (f" {first['path']}" if first.get("path") else "")
    told = f"{at} {first['message']} {first['cure']}".replace("`", "")  # the page shows a command as code
    yield f"{told} {t('file.and_more', n=report['error_count'] - 1)}"
    yield t("file.refused", n=report["error_count"])
    yield t("file.with_warnings", n=report["warning_count"])
    yield f"{report['examples']} {t('file.rows', n=report['examples'])}"
    yield f"{report['bad_rows']} {t('file.bad_rows', n=report['bad_rows'])}"
    yield f"{report['openai']['tokens']:,} {t('file.tokens')}"
    yield f"{report['openai']['learned_tokens']:,} {t('file.learned_tokens')}"
    yield f"{t('files.size')} {size(file['bytes'])}"
    yield t("file.duplicates_lead", n=report["duplicates"]["rows"])
    yield " · ".join(f"{count} {role}" for role, count in report["roles"].items())
    for name, part in report["languages"]["shares"].items():
        yield f"{name} {100 * part:.0f} %"
    yield from finding_facts(report)
    spread = report["distributions"]["tokens_per_row"]
    said = {"low": spread["min"], "median": round(spread["median"]), "p95": round(spread["p95"]), "high": spread["max"]}
    yield t("file.lengths_text", **said)
    edges, counts = [round(one) for one in spread["histogram"]["edges"]], spread["histogram"]["counts"]
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        yield t("file.bar", low=low, high=high, n=count)
        yield f"{low:,} – {high:,} {count}"
    yield f"{max(counts)} 0 {edges[0]:,} {edges[-1]:,}"  # at the axes


def finding_facts(report: Json) -> Iterator[str]:
    """Of the findings: where they are, and how many of each."""
    listed = [*report["errors"], *report["warnings"]]
    for code, count in report["counts"].items():
        yield t("file.found", n=count)
        if (found := sum(one["code"] == code for one in listed)) < count:
            yield t("file.first_listed", n=found)
    yield t("file.not_listed", listed=len(listed), total=sum(report["counts"].values()))
    for one in listed:
        if one.get("line"):
            yield t("file.line", line=one["line"])


def usage_facts(days: list[Json], sums: dict[str, list[Json]], names: dict[str, str]) -> Iterator[str]:
    """Of the usage by day, and by model and key (whose results the API has by day), and what it would have cost."""
    price = require_price(DEFAULT_MODEL)
    by_day = {_day(one["start_time"]): _sum(one["results"]) for one in days}
    total = sum(by_day.values(), Counts())
    for name in ("requests", "prompt_tokens", "completion_tokens", "trained_tokens"):
        yield f"{t(f'counter.{name}')} {getattr(total, name):,}"
    yield f"{t('usage.would_cost')} {dollars(usage_cost(price, total))}"
    yield from _cost_lines(by_day, price)
    for group, results in sums.items():
        of = {one[group]: _sum([two for two in results if two[group] == one[group]]) for one in results}
        yield from _cost_lines({names.get(name, name): counts for name, counts in of.items()}, price)
    most = max(counts.requests for counts in by_day.values())
    yield t("usage.chart", name=t("counter.requests"), days=len(by_day), most=most)
    bars = " ".join(f"{day}: {counts.requests:,}" for day, counts in by_day.items())
    ticks = [list(by_day)[place][5:] for place in (0, len(by_day) // 2, len(by_day) - 1)]
    yield f"0 {most:,} {bars} {' '.join(ticks)}"


def _cost_lines(sums: dict[str, Counts], price: Price) -> Iterator[str]:
    for name, one in sums.items():
        cost = dollars(usage_cost(price, one))
        yield f"{name} {' '.join(f'{getattr(one, counter):,}' for counter in COUNTERS)} {cost}"


def _sum(results: list[Json]) -> Counts:
    return sum((counts_of(one) for one in results), Counts())


def _day(seconds: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))
