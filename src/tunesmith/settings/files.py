"""What files may be, and how they are checked."""

from typing import Literal

from pydantic import Field

from tunesmith.settings.group import Group


class FileSettings(Group):
    """What files may be, and how they are checked."""

    result_encoding: Literal["plain", "base64"] = Field(
        "plain", description="How result files are served: plain CSV as in 2023, or base64 as OpenAI since 2024."
    )
    max_file_bytes: int = Field(512 * 1024 * 1024, gt=0, description="Largest file in one request, bytes.")
    max_upload_bytes: int = Field(8 * 1024**3, gt=0, description="Largest file that is uploaded in parts, bytes.")
    max_part_bytes: int = Field(64 * 1024 * 1024, gt=0, description="Largest part of an upload, bytes.")
    check_seconds: float = Field(
        120.0, gt=0, description="Longest check of an uploaded file, seconds, plus a second for each megabyte."
    )
    check_memory_mib: int = Field(
        0, ge=0, description="Memory that the check of an uploaded file may take, MiB; 0: a quarter of the machine's."
    )
    upload_seconds: int = Field(3600, gt=0, description="How long an upload accepts parts, seconds.")
    sweep_seconds: float = Field(
        600.0, gt=0, description="Interval at which expired files and uploads are removed, seconds."
    )
    max_suffix_chars: int = Field(64, gt=0, le=255, description="Longest suffix of a model name, characters.")
    max_metadata_pairs: int = Field(16, ge=0, le=1000, description="Maximum number of metadata pairs per object.")
    max_example_tokens: int | None = Field(
        None, gt=0, description="Longest training example, tokens; unset: the base model's context length."
    )
