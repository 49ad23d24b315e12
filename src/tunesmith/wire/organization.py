"""`/v1/organization`: projects, keys and usage."""

from typing import Annotated, Literal, NotRequired, TypeAlias

from pydantic import ConfigDict, Field
from typing_extensions import TypedDict

from tunesmith.wire.body import Body
from tunesmith.wire.lists import Anything

Name: TypeAlias = Annotated[str, Field(min_length=1, max_length=256, pattern=r"\S")]
Lifetime: TypeAlias = Annotated[int | None, Field(ge=1, le=10**10)]  # seconds


class ProjectBody(Body):
    """The body that creates or renames a project."""

    model_config = ConfigDict(strict=True)

    name: Name = Field(description="1 to 256 characters.")


class AdminKeyBody(ProjectBody):
    """The body that creates an owner's key."""

    expires_in_seconds: Lifetime = Field(None, description="How long the key works; unset: until it is revoked.")


class ProjectKeyBody(AdminKeyBody):
    """The body that creates a key of a project."""

    role: Literal["member", "read-only"] = Field("member", description="member or read-only.")


class Project(TypedDict):
    """A project of the organization."""

    id: str
    object: Literal["organization.project"]
    name: str
    created_at: int
    archived_at: int | None
    status: Literal["active", "archived"]


KeyKind: TypeAlias = Literal["organization.project.api_key", "organization.admin_api_key"]


class Key(TypedDict):
    """A key; `value` is shown once, in the answer that makes the key."""

    object: KeyKind
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
    """What was used in one bucket, by the groups asked for."""

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
    """A span of time, `end_time` exclusive, in seconds since 1970."""

    object: Literal["bucket"]
    start_time: int
    end_time: int
    results: list[UsageResult]


class UsagePage(TypedDict):
    """One page of buckets."""

    object: Literal["page"]
    data: list[UsageBucket]
    has_more: bool
    next_page: str | None
