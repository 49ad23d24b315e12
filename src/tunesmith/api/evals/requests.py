"""Evals and runs as they are asked for: checked whole before anything is written."""

from typing import cast

from anyio import to_thread

from tunesmith.api.evals.plans import DATA, kind_of_data, read_asking
from tunesmith.api.evals.sources import PARAM, read_rows
from tunesmith.api.http.context import Context
from tunesmith.api.http.models import base_of
from tunesmith.errors import InvalidRequest
from tunesmith.evals.runs.criteria import Criterion, read_criteria, refers_to_sample, shown_criteria
from tunesmith.evals.runs.samples import Asking
from tunesmith.evals.runs.schema import read_schema, shown_schema, stored_schema
from tunesmith.graders.grader import LabelModel, ScoreModel, leaves
from tunesmith.graders.python_code import PythonGrader, check_python, jail_limits
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.serve.embeddings.cosine import check_cosine
from tunesmith.store import KeyRow
from tunesmith.store.evals.rows import EvalRow, NewEval, NewRun, RunItem
from tunesmith.wire.body import read
from tunesmith.wire.evals.bodies import CreateEval, CreateRun, CustomConfig, StoredConfig

CONFIG = "data_source_config"


async def new_eval(context: Context, body: CreateEval) -> NewEval:
    """Raises InvalidRequest, and NotFound for a model that is not there."""
    values = cast(list[JsonValue], body.testing_criteria)
    config = _config(cast(JsonValue, body.data_source_config))
    criteria = read_criteria(values)
    await to_thread.run_sync(_check_models, context, criteria)
    for criterion in criteria:
        check_cosine(criterion.grader, context.settings)
        for leaf in leaves(criterion.grader).values():
            if isinstance(leaf, PythonGrader):
                await check_python(leaf, jail_limits(context.settings), context.project)
    name = body.name or criteria[0].name
    return NewEval(context.project, name, config, shown_criteria(values, criteria), body.metadata or {})


def new_run(context: Context, key: KeyRow, row: EvalRow, body: CreateRun) -> tuple[NewRun, list[RunItem]]:
    """The run and its rows. Raises InvalidRequest and NotFound."""
    data = cast(JsonObject, body.data_source)
    kind_of_data(data, DATA, ("jsonl", "completions", "responses"))
    asking = read_asking(data, context.settings)
    if asking.model:
        _check_model(context, asking.model)
    _check_data(row, data)
    items = read_rows(context, row, data)
    _check_samples(row, asking, items)
    if asking.model:  # the rows are answered anew: what they brought along is what they are compared with
        items = [RunItem(one.item) for one in items]
    name = body.name or asking.model or row.name
    return NewRun(row.id, context.project, key.id, name, asking.model, data, body.metadata or {}), items


def _config(value: JsonValue) -> JsonObject:
    kind = kind_of_data(value, CONFIG, ("custom", "logs", "stored_completions"))
    if kind == "custom":
        custom = read(CustomConfig, value, CONFIG)
        schema = cast(JsonObject, custom.item_schema)
        read_schema(schema)
        return {"type": kind, "schema": shown_schema(schema, with_sample=custom.include_sample_schema)}
    stored = read(StoredConfig, value, CONFIG)
    found: JsonObject = {"type": kind, "schema": stored_schema()}
    return {**found, "metadata": cast(JsonObject, stored.metadata or {})}


def _check_models(context: Context, criteria: tuple[Criterion, ...]) -> None:
    for criterion in criteria:
        for leaf in leaves(criterion.grader).values():
            if isinstance(leaf, ScoreModel | LabelModel):
                _check_model(context, leaf.model)


def _check_model(context: Context, name: str) -> None:
    """Raises NotFound for a model that is not there; loads none."""
    if context.store.models.resolve(name) is None:
        base_of(context, name)


def _check_data(row: EvalRow, data: JsonObject) -> None:
    """Raises InvalidRequest for rows of another kind than the eval's."""
    source = data.get("source")
    stored = isinstance(source, dict) and source.get("type") == "stored_completions"
    if stored and row.data_source_config.get("type") == "custom":
        raise InvalidRequest(
            f"The eval {row.id} has items of a schema of its own (custom), so stored completions are none of them. "
            f"Send file_content or file_id, or make an eval with logs. - '{PARAM}.type'",
            param=f"{PARAM}.type",
        )


def _check_samples(row: EvalRow, asking: Asking, items: list[RunItem]) -> None:
    """Raises InvalidRequest where criteria read an answer that neither a model nor the rows give."""
    if asking.model or not any(refers_to_sample(one) for one in read_criteria(row.testing_criteria)):
        return
    lacking = next((number for number, one in enumerate(items, 1) if one.given is None), None)
    if lacking is not None:
        raise InvalidRequest(
            f"Row {lacking} has no sample, and the eval's criteria refer to one: add it to the row "
            '("sample": {"output_text": "..."}), or let a model answer: a data_source of the type completions with '
            "input_messages and model.",
            param=PARAM,
            code="missing_sample",
        )
