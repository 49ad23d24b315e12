"""How much a project may ask for, store and run."""

from pydantic import Field

from tunesmith.settings.group import Group


class LimitSettings(Group):
    """How much a project may ask for, store and run."""

    limit_requests_per_minute: int = Field(0, ge=0, description="Model requests per project and minute; 0: no limit.")
    limit_tokens_per_minute: int = Field(
        0, ge=0, description="Tokens per project and minute, prompts and answers together; 0: no limit."
    )
    limit_uploads_per_minute: int = Field(
        1000, ge=0, description="Uploads of files and parts per project and minute; 0: no limit."
    )
    max_body_bytes: int = Field(
        4 * 1024 * 1024, ge=1024, description="Largest body of a request that is no upload, bytes; more are refused."
    )
    body_timeout: float = Field(
        30.0, gt=0, description="How long a client may send nothing in the middle of a request's body, seconds."
    )
    limit_concurrent_requests: int = Field(
        0, ge=0, description="Answers under way per project (`n` each); 0: no limit."
    )

    limit_stored_chats: int = Field(10_000, ge=0, description="Stored chat completions per project; 0: no limit.")
    limit_unfinished_jobs: int = Field(1000, ge=0, description="Unfinished jobs per project; 0: no limit.")
    limit_unfinished_runs: int = Field(100, ge=0, description="Unfinished eval runs per project; 0: no limit.")
    eval_rows: int = Field(10_000, ge=1, description="Most rows of an eval run; more are refused.")
    limit_job_seconds: float = Field(
        0, ge=0, description="Longest training of a job over all its attempts, seconds; 0: no limit."
    )
    limit_project_bytes: int = Field(
        0, ge=0, description="Disk for the uploaded files of a project, bytes; 0: no limit but the disk's."
    )
    disk_reserve_bytes: int | None = Field(
        None, ge=0, description="Disk that uploads leave free, bytes; unset: 10 % of it or 2 GiB, whichever is less."
    )
