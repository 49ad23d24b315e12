"""Ids in OpenAI's shapes.

Most are a prefix and 24 base62 characters: about 143 bits of randomness.
"""

import re
import secrets
import string

FILE_ID = re.compile(r"file-[0-9A-Za-z]{16,64}")  # ours, and those of imported files
API_KEY = re.compile(r"sk-tunesmith-[0-9A-Za-z]{43}")
UPLOAD_ID = re.compile(r"upload_[0-9a-f]{32}")

BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
ID_LENGTH = 24
TAIL_LENGTH = 8


def base62(length: int) -> str:
    """A random string of `length` characters from 0-9, A-Z and a-z."""
    return "".join(secrets.choice(BASE62) for _ in range(length))


def new_file_id() -> str:
    """A new id of a file."""
    return f"file-{base62(ID_LENGTH)}"


def new_upload_id() -> str:
    """A new id of an upload."""
    return f"upload_{secrets.token_hex(16)}"


def new_part_id() -> str:
    """A new id of a part of an upload."""
    return f"part_{secrets.token_hex(16)}"


def new_job_id() -> str:
    """A new id of a fine-tuning job."""
    return f"ftjob-{base62(ID_LENGTH)}"


def new_event_id() -> str:
    """A new id of a job's event."""
    return f"ftevent-{base62(ID_LENGTH)}"


def new_checkpoint_id() -> str:
    """A new id of a checkpoint."""
    return f"ftckpt_{base62(ID_LENGTH)}"


def new_permission_id() -> str:
    """A new id of a permission."""
    return f"cp_{base62(ID_LENGTH)}"


def new_key_id() -> str:
    """A new id of an API key."""
    return f"key_{base62(ID_LENGTH)}"


def new_project_id() -> str:
    """A new id of a project."""
    return f"proj_{base62(ID_LENGTH)}"


def new_api_key() -> str:
    """A new API key.

    Its 43 base62 characters are 256 bits, so a single unsalted hash of it is safe to store.
    """
    return f"sk-tunesmith-{base62(43)}"


def suffix_slug(suffix: str | None) -> str:
    """The suffix as it appears in a model's name.

    Lower case; every run of characters other than letters, digits, `_` and `.` becomes a dash.
    """
    return re.sub(r"[^\w.]+", "-", (suffix or "").lower()).strip("-")


def tuned_model_name(base: str, organization: str, suffix: str | None) -> str:
    """A unique name: `ft:<base>:<organization>:<suffix>:<8 characters>`.

    Without a suffix that field is empty.
    """
    return f"ft:{base}:{organization}:{suffix_slug(suffix)}:{base62(TAIL_LENGTH)}"


def checkpoint_model_name(planned: str, step: int) -> str:
    """The name of an earlier checkpoint of the job whose model will be `planned`.

    It differs from `planned` in its last eight characters and ends with the step.
    """
    stem = planned.rpartition(":")[0]
    return f"{stem}:{base62(TAIL_LENGTH)}:ckpt-step-{step}"


def new_eval_id() -> str:
    """A new id of an eval."""
    return f"eval_{secrets.token_hex(16)}"


def new_run_id() -> str:
    """A new id of an eval's run."""
    return f"evalrun_{secrets.token_hex(16)}"


def new_item_id() -> str:
    """A new id of an output item of a run."""
    return f"outputitem_{secrets.token_hex(16)}"
