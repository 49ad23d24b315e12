"""`/v1/models`, and the permissions of other projects to use a tuned model."""

from typing import Annotated, Literal, NotRequired

from pydantic import ConfigDict, Field
from typing_extensions import TypedDict

from tunesmith.wire.body import FIRST_FAULT, Body, Text
from tunesmith.wire.lists import Deleted

MAX_PROJECTS = 100


class GrantPermissions(Body):
    """The body of `POST /v1/fine_tuning/checkpoints/{name}/permissions`."""

    project_ids: Annotated[list[Text], Field(min_length=1, max_length=MAX_PROJECTS), FIRST_FAULT] = Field(
        description="1 to 100 active projects, each of which may then use the model."
    )


class AliasBody(Body):
    """The body of `POST /v1/models/{name}`: the base that the name is to stand for."""

    model_config = ConfigDict(strict=True)

    base: Text = Field(min_length=1, max_length=256, description="A base, or another alias of it.")


class DisplayNameBody(Body):
    """The body of `POST /v1/models/{name}/display_name`."""

    display_name: Text = Field(
        max_length=1000,
        description="What pages show, at most 80 characters in one line; empty takes the name away. Requests go on "
        "using the model's own name.",
    )


class ModelDetails(TypedDict):
    """What one tuned model tells beyond OpenAI's keys; lists leave it out."""

    system_message: NotRequired[str]  # of most rows of its training file
    display_name: NotRequired[str]  # what people call it


class Model(TypedDict):
    """A base, an alias of one, or a tuned model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    tunesmith: NotRequired[ModelDetails]


class DeletedDetails(TypedDict):
    """What the end of a model leaves."""

    still_answers_as: list[str]  # imported names that were given its weights, which stay for them


class DeletedModel(Deleted):
    """A tuned model or an alias was deleted."""

    tunesmith: NotRequired[DeletedDetails]


class Models(TypedDict):
    """The answer of `GET /v1/models`."""

    object: Literal["list"]
    data: list[Model]


class Permission(TypedDict):
    """Another project may use a tuned model."""

    object: Literal["checkpoint.permission"]
    id: str
    created_at: int
    project_id: str
