"""The answers of `/v1/evals`."""

from typing import Literal, NotRequired, TypeAlias

from typing_extensions import TypedDict

from tunesmith.wire.lists import Anything

RunStatus: TypeAlias = Literal["queued", "in_progress", "completed", "canceled", "failed"]
ItemStatus: TypeAlias = Literal["pass", "fail", "error"]


class DataSourceConfig(TypedDict):
    """What an eval's items look like."""

    type: Literal["custom", "logs", "stored_completions"]
    schema: Anything
    metadata: NotRequired[Anything]


class Eval(TypedDict):
    """An eval."""

    object: Literal["eval"]
    id: str
    data_source_config: DataSourceConfig
    testing_criteria: list[Anything]
    name: str
    created_at: int
    metadata: dict[str, str]


class EvalDeleted(TypedDict):
    """An eval was deleted with its runs."""

    object: Literal["eval.deleted"]
    deleted: Literal[True]
    eval_id: str


class RunDeleted(TypedDict):
    """A run was deleted."""

    object: Literal["eval.run.deleted"]
    deleted: Literal[True]
    run_id: str


class EvalError(TypedDict):
    """Why something could not be done.

    Where it could, null stands in its place. OpenAI's description demands the object, but every recorded answer of the
    service, and every example of its own pages, has null: clients test `if run.error`.
    """

    code: str
    message: str


class ResultCounts(TypedDict):
    """Rows of a run by their end; `total` has those that still wait."""

    total: int
    errored: int
    failed: int
    passed: int


class ModelUsage(TypedDict):
    """What a model took in a run, judges included."""

    model_name: str
    invocation_count: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int


class CriterionResults(TypedDict):
    """Rows that passed and failed one criterion; rows without a score are in neither."""

    testing_criteria: str
    passed: int
    failed: int


class Run(TypedDict):
    """A run of an eval."""

    object: Literal["eval.run"]
    id: str
    eval_id: str
    report_url: str
    status: RunStatus
    model: str
    name: str
    created_at: int
    result_counts: ResultCounts
    per_model_usage: list[ModelUsage]
    per_testing_criteria_results: list[CriterionResults]
    data_source: Anything
    error: EvalError | None
    metadata: dict[str, str]


class SampleMessage(TypedDict):
    """A message that was sent or answered."""

    role: str
    content: str
    tool_calls: NotRequired[list[Anything]]


class SampleUsage(TypedDict):
    """The tokens of one answer."""

    total_tokens: int
    completion_tokens: int
    prompt_tokens: int
    cached_tokens: int


class Sample(TypedDict):
    """What was asked and answered."""

    input: list[SampleMessage]
    output: list[SampleMessage]
    finish_reason: str
    model: str
    usage: SampleUsage
    error: EvalError | None
    temperature: float
    max_completion_tokens: int
    top_p: float
    seed: int


class Result(TypedDict):
    """What one criterion says of a row; `error` says why it has no score."""

    name: str
    type: str
    score: float
    passed: bool
    sample: Anything | None
    error: NotRequired[EvalError]


class OutputItem(TypedDict):
    """A row of a run, done."""

    object: Literal["eval.run.output_item"]
    id: str
    created_at: int
    run_id: str
    eval_id: str
    status: ItemStatus
    datasource_item_id: int
    datasource_item: Anything
    results: list[Result]
    sample: Sample
