"""Evals, runs and output items as OpenAI's JSON."""

from collections.abc import Sequence
from typing import cast

from tunesmith.jsonvalue import JsonObject
from tunesmith.store.evals.rows import EvalRow, ItemRow, RunRow
from tunesmith.wire.evals import answers


def eval_json(row: EvalRow) -> answers.Eval:
    """An eval."""
    return {
        "object": "eval",
        "id": row.id,
        "data_source_config": cast(answers.DataSourceConfig, row.data_source_config),
        "testing_criteria": [cast(dict[str, object], one) for one in row.testing_criteria],
        "name": row.name,
        "created_at": row.created_at,
        "metadata": row.metadata,
    }


def run_json(row: RunRow, criteria: Sequence[JsonObject], base_url: str) -> answers.Run:
    """A run. `criteria`: those of its eval."""
    counts: answers.ResultCounts = {
        "total": row.total,
        "errored": row.errored,
        "failed": row.failed,
        "passed": row.passed,
    }
    return {
        "object": "eval.run",
        "id": row.id,
        "eval_id": row.eval_id,
        "report_url": f"{base_url}/v1/evals/{row.eval_id}/runs/{row.id}",
        "status": row.status,
        "model": row.model,
        "name": row.name,
        "created_at": row.created_at,
        "result_counts": counts,
        "per_model_usage": _usage(row),
        "per_testing_criteria_results": _criteria(row, criteria),
        "data_source": cast(dict[str, object], row.data_source),
        "error": cast(answers.EvalError | None, row.error),
        "metadata": row.metadata,
    }


def item_json(row: ItemRow, eval_id: str) -> answers.OutputItem:
    """A row of a run, done."""
    return {
        "object": "eval.run.output_item",
        "id": row.id,
        "created_at": row.created_at,
        "run_id": row.run_id,
        "eval_id": eval_id,
        "status": cast(answers.ItemStatus, row.state),
        "datasource_item_id": row.number,
        "datasource_item": cast(dict[str, object], row.item),
        "results": [cast(answers.Result, one) for one in row.results],
        "sample": _sample(row.sample or {}),
    }


def _sample(stored: JsonObject) -> answers.Sample:
    """Rows that were done before 2026-12 have an error of two empty texts where there was none."""
    error = stored.get("error")
    failed = isinstance(error, dict) and bool(error.get("message"))
    return cast(answers.Sample, {**stored, "error": error if failed else None})


def _usage(row: RunRow) -> list[answers.ModelUsage]:
    return [
        {
            "model_name": name,
            "invocation_count": one.count,
            "prompt_tokens": one.prompt,
            "completion_tokens": one.completion,
            "total_tokens": one.prompt + one.completion,
            "cached_tokens": one.cached,
        }
        for name, one in row.totals.usage.items()
    ]


def _criteria(row: RunRow, criteria: Sequence[JsonObject]) -> list[answers.CriterionResults]:
    found = row.totals.criteria or ((0, 0),) * len(criteria)
    return [
        {"testing_criteria": str(one["name"]), "passed": passed, "failed": failed}
        for one, (passed, failed) in zip(criteria, found, strict=False)
    ]
