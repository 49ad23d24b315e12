"""What each route answers, as types: `api.document` is made of them, and fuzzing holds the answers to it.

They describe what the views build and decide nothing. Every key is always there unless it is marked NotRequired.
"""

from typing import Generic, Literal, NotRequired, TypeAlias, TypeVar

from typing_extensions import TypedDict

T = TypeVar("T")
Anything: TypeAlias = dict[str, object]
Numbers: TypeAlias = dict[str, float]


class ErrorBody(TypedDict):
    message: str
    type: str
    param: str | None
    code: str | None


class Error(TypedDict):
    error: ErrorBody


class Listing(TypedDict, Generic[T]):
    object: Literal["list"]
    data: list[T]
    has_more: bool


class IdListing(TypedDict, Generic[T]):
    object: Literal["list"]
    data: list[T]
    has_more: bool
    first_id: str | None
    last_id: str | None


class File(TypedDict):
    object: Literal["file"]
    id: str
    purpose: Literal["fine-tune", "fine-tune-results", "assistants", "batch", "user_data", "vision", "evals"]
    filename: str
    bytes: int
    created_at: int
    expires_at: int | None
    status: Literal["uploaded", "processed", "error"]
    status_details: str | None


class Deleted(TypedDict):
    """`object` is the kind of what was deleted, or `<kind>.deleted` where OpenAI says so."""

    id: str
    object: str
    deleted: Literal[True]


class Upload(TypedDict):
    id: str
    object: Literal["upload"]
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: Literal["pending", "completed", "cancelled", "expired"]
    expires_at: int
    file: NotRequired[File]


class UploadPart(TypedDict):
    id: str
    object: Literal["upload.part"]
    created_at: int
    upload_id: str


class JobError(TypedDict):
    code: str
    param: str | None
    message: str


class TunedHyperparameters(TypedDict):
    n_epochs: int | Literal["auto"]
    batch_size: int | Literal["auto"]
    learning_rate_multiplier: float | Literal["auto"]
    beta: NotRequired[float | Literal["auto"]]


class MethodSettings(TypedDict):
    hyperparameters: TunedHyperparameters


class JobMethod(TypedDict):
    type: Literal["supervised", "dpo"]
    supervised: NotRequired[MethodSettings]
    dpo: NotRequired[MethodSettings]


class Job(TypedDict):
    object: Literal["fine_tuning.job"]
    id: str
    model: str
    created_at: int
    finished_at: int | None
    fine_tuned_model: str | None
    organization_id: str
    result_files: list[str]
    status: Literal["validating_files", "queued", "running", "succeeded", "failed", "cancelled"]
    validation_file: str | None
    training_file: str
    hyperparameters: TunedHyperparameters
    trained_tokens: int | None
    error: JobError | None
    user_provided_suffix: str | None
    seed: int
    estimated_finish: int | None
    integrations: list[Anything]
    metadata: dict[str, str] | None
    usage_metrics: None
    shared_with_openai: Literal[False]
    eval_id: None
    method: JobMethod
    tunesmith: Anything


class Event(TypedDict):
    object: Literal["fine_tuning.job.event"]
    id: str
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    data: Anything | None
    type: Literal["message", "metrics", "moderation_checks"]


class Checkpoint(TypedDict):
    object: Literal["fine_tuning.job.checkpoint"]
    id: str
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    metrics: Anything
    step_number: int


class Permission(TypedDict):
    object: Literal["checkpoint.permission"]
    id: str
    created_at: int
    project_id: str


class Model(TypedDict):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class Models(TypedDict):
    object: Literal["list"]
    data: list[Model]


class ValidatedGrader(TypedDict):
    grader: Anything


class GraderMetadata(TypedDict):
    name: str
    type: str
    errors: dict[str, bool | str | None]
    execution_time: float
    scores: Numbers
    token_usage: int | None
    sampled_model_name: str | None


class GraderRun(TypedDict):
    reward: float
    metadata: GraderMetadata
    sub_rewards: Numbers
    model_grader_token_usage_per_model: dict[str, Numbers]


class TokenUsage(TypedDict):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: dict[str, int]
    completion_tokens_details: dict[str, int]


class CalledFunction(TypedDict):
    name: str
    arguments: str


class ToolCall(TypedDict):
    id: str
    type: Literal["function"]
    function: CalledFunction


class Message(TypedDict):
    role: Literal["assistant"]
    content: str | None
    tool_calls: NotRequired[list[ToolCall]]
    function_call: NotRequired[CalledFunction]
    refusal: None
    annotations: list[Anything]


class Choice(TypedDict):
    index: int
    message: Message
    logprobs: Anything | None
    finish_reason: Literal["stop", "length", "tool_calls", "function_call"] | None


class Completion(TypedDict):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: TokenUsage
    service_tier: Literal["default"]
    system_fingerprint: str


class StoredCompletion(Completion):
    request_id: str
    tool_choice: Anything | str | None
    seed: int | None
    top_p: float
    temperature: float
    presence_penalty: float
    frequency_penalty: float
    input_user: str | None
    tools: list[Anything] | None
    metadata: dict[str, str]
    response_format: Anything | None


class StoredMessage(TypedDict):
    id: str
    role: str
    content: str | None
    name: str | None
    refusal: None
    content_parts: list[Anything] | None
    tool_calls: NotRequired[list[Anything]]
    tool_call_id: NotRequired[str]
    function_call: NotRequired[Anything]


class TextChoice(TypedDict):
    text: str
    index: int
    logprobs: Anything | None
    finish_reason: Literal["stop", "length"] | None


class TextCompletion(TypedDict):
    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: TokenUsage


class Judged(TypedDict):
    flagged: bool
    categories: dict[str, bool]
    category_scores: Numbers
    category_applied_input_types: dict[str, list[Literal["text"]]]


class Moderation(TypedDict):
    id: str
    model: str
    results: list[Judged]


class Project(TypedDict):
    id: str
    object: Literal["organization.project"]
    name: str
    created_at: int
    archived_at: int | None
    status: Literal["active", "archived"]


class Key(TypedDict):
    """`value` is shown once, in the answer that makes the key."""

    object: Literal["organization.project.api_key", "organization.admin_api_key"]
    id: str
    name: str
    redacted_value: str
    created_at: int
    last_used_at: int | None
    expires_at: int | None
    owner: Anything
    owner_project_access: NotRequired[Literal["active"]]
    value: NotRequired[str]


class UsageResult(TypedDict):
    object: Literal["organization.usage.completions.result"]
    input_tokens: int
    output_tokens: int
    input_cached_tokens: int
    input_audio_tokens: int
    output_audio_tokens: int
    num_model_requests: int
    project_id: str | None
    user_id: None
    api_key_id: str | None
    model: str | None
    batch: None
    service_tier: None
    tunesmith: dict[str, int]


class UsageBucket(TypedDict):
    object: Literal["bucket"]
    start_time: int
    end_time: int
    results: list[UsageResult]


class UsagePage(TypedDict):
    object: Literal["page"]
    data: list[UsageBucket]
    has_more: bool
    next_page: str | None


class Health(TypedDict):
    status: Literal["ok"]
    version: str
