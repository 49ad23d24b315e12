"""Where data is kept, and the address of the API."""

from pathlib import Path
from typing import Annotated

import platformdirs
from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from tunesmith.setting_values import host_names, origins
from tunesmith.settings.group import Group
from tunesmith.settings.sources import default_data_dir


class DataSettings(Group):
    """Where data is kept, and the address of the API."""

    data_dir: Path = Field(default_factory=default_data_dir, description="Directory of all data.")
    cache_dir: Path = Field(
        default_factory=lambda: platformdirs.user_cache_path("tunesmith", appauthor=False),
        description="Derived files, shared by all data directories; may be deleted at any time.",
    )
    database_url: str | None = Field(
        None,
        repr=False,  # it may have a password
        description="SQLAlchemy URL; unset: SQLite in the data directory.",
    )
    storage: str | None = Field(
        None,
        description="Bucket of files and models: s3://bucket/prefix, gs://… or az://… (docs/storage.md);"
        " unset: the data directory.",
    )
    storage_endpoint: str | None = Field(
        None,
        pattern=r"^https?://",
        description="URL of the server of s3:// or az://, such as http://minio:9000; unset: the cloud's own.",
    )
    storage_cache_gib: float = Field(
        20.0,
        gt=0,
        description="Room for copies of a bucket's files in the data directory, and as much for fetched models, GiB.",
    )
    host: str = Field("127.0.0.1", description="Address the API binds to.")
    port: int = Field(8000, ge=0, le=65535, description="Port the API binds to; 0 takes a free one.")
    allowed_origins: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="Origins whose web pages may call the API: https://a.example,https://b.example; or *, all.",
    )
    page_hosts: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="Names of this server under which the dashboard is shown, beside its addresses: tune.example.",
    )

    drain_seconds: float = Field(
        0.0,
        ge=0,
        le=3600,
        description="How long a server that is asked to end answers on while /healthz says 503, seconds; longer than a"
        " proxy takes to notice that.",
    )

    @field_validator("cache_dir")
    @classmethod
    def _expanded(cls, directory: Path) -> Path:
        return directory.expanduser()

    @field_validator("allowed_origins", mode="before")
    @classmethod
    def _origins(cls, given: str | list[str]) -> list[str]:
        return origins(given)

    @field_validator("page_hosts", mode="before")
    @classmethod
    def _hosts(cls, given: str | list[str]) -> list[str]:
        return host_names(given)
