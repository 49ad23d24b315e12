"""`/v1/files` and `/v1/uploads`: a file in one request, or in parts."""

import re
from typing import Annotated, Literal, NotRequired, Self, TypeAlias, get_args

from pydantic import BeforeValidator, Field, StrictInt, model_validator
from typing_extensions import TypedDict

from tunesmith.errors import InvalidRequest
from tunesmith.wire.body import FIRST_FAULT, Body, Text
from tunesmith.wire.faults import shown, worded

Purpose: TypeAlias = Literal["fine-tune", "assistants", "batch", "user_data", "vision", "evals"]
FilePurpose: TypeAlias = Purpose | Literal["fine-tune-results"]
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
MIN_EXPIRY, MAX_EXPIRY = 3600, 2_592_000  # seconds: an hour, 30 days
BATCH_EXPIRY = MAX_EXPIRY  # OpenAI's rule: batch files expire after 30 days unless told otherwise
MAX_PARTS = 10_000
PURPOSE = (
    "fine-tune, assistants, batch, user_data, vision or evals; only fine-tune and evals files are used for anything."
)
BINARY = Field(json_schema_extra={"format": "binary"})


def _lifetime(text: object) -> int:
    """The seconds of a form's field, which is text."""
    seconds = int(text) if isinstance(text, str) and re.fullmatch("[0-9]{1,9}", text) else 0
    if not MIN_EXPIRY <= seconds <= MAX_EXPIRY:
        raise ValueError(f"{shown(text)} is not a whole number of seconds from {MIN_EXPIRY} to {MAX_EXPIRY}")
    return seconds


Lifetime: TypeAlias = Annotated[int, Field(ge=MIN_EXPIRY, le=MAX_EXPIRY)]


class FileForm(Body):
    """The form of `POST /v1/files`.

    `file` is the part's file name; its bytes are streamed.
    """

    file: Annotated[str, BINARY] = Field(
        description="Any file name, with or without .jsonl; at most max_file_bytes. An empty file is refused."
    )
    purpose: Purpose = Field(description=PURPOSE)
    anchor: Literal["created_at"] | None = Field(
        None, alias="expires_after[anchor]", description="created_at; only together with the seconds."
    )
    seconds: Annotated[Lifetime | None, BeforeValidator(_lifetime, json_schema_input_type=Lifetime)] = Field(
        None,
        alias="expires_after[seconds]",
        description="3600 to 2592000; unset: never, but files with the purpose batch expire after 30 days.",
    )

    @model_validator(mode="after")
    def _expiry_whole(self) -> Self:
        """Either both of its fields are given or neither."""
        if (self.anchor is None) != (self.seconds is None):
            name = f"expires_after[{'anchor' if self.anchor is None else 'seconds'}]"
            known = (
                "one of ['created_at']"
                if self.anchor is None
                else (f"a whole number of seconds from {MIN_EXPIRY} to {MAX_EXPIRY}")
            )
            raise worded(lambda _: InvalidRequest(f"None is not {known} - '{name}'", param=name))
        return self


class PartForm(Body):
    """The form of `POST /v1/uploads/{upload_id}/parts`."""

    data: Annotated[str, BINARY] = Field(
        description="The bytes, at most max_part_bytes; parts may be sent in any order and in parallel."
    )


class ExpiresAfter(Body):
    """When the finished file expires, in seconds from its creation."""

    anchor: Literal["created_at"] = Field(description="created_at: when the upload is completed.")
    seconds: StrictInt = Field(ge=MIN_EXPIRY, le=MAX_EXPIRY, description="3600 to 2592000.")


class CreateUpload(Body):
    """The body of `POST /v1/uploads`."""

    filename: Text = Field(min_length=1, description="Shown, never used as a path.")
    purpose: Purpose = Field(description=PURPOSE)
    bytes: StrictInt = Field(ge=1, le=2**63 - 1, description="Size of the whole file; at most max_upload_bytes.")
    mime_type: Text = Field(
        min_length=1,
        max_length=255,
        description="For a fine-tune file text/jsonl (or application/jsonl, application/x-ndjson, application/json, "
        "application/octet-stream); otherwise anything.",
    )
    expires_after: ExpiresAfter | None = Field(
        None, description="Unset: never, but files with the purpose batch expire after 30 days."
    )


class CompleteUpload(Body):
    """The body of `POST /v1/uploads/{upload_id}/complete`.

    `part_ids` are in the file's order.
    """

    part_ids: Annotated[list[Text], Field(min_length=1, max_length=MAX_PARTS), FIRST_FAULT] = Field(
        description="In the order of the file, together exactly bytes long; parts that are not named are discarded."
    )
    md5: Annotated[Text, Field(pattern="^[0-9a-fA-F]{32}$")] | None = Field(
        None, description="Of the whole file, in hexadecimal; verified."
    )


class File(TypedDict):
    """A file, in the recorded key order."""

    object: Literal["file"]
    id: str
    purpose: FilePurpose
    filename: str
    bytes: int
    created_at: int
    expires_at: int | None
    status: Literal["uploaded", "processed", "error"]
    status_details: str | None


class Upload(TypedDict):
    """An upload; `file` is absent until there is one."""

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
    """A part of an upload."""

    id: str
    object: Literal["upload.part"]
    created_at: int
    upload_id: str
