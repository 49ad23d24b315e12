"""Ids in OpenAI's shapes: a prefix and 24 base62 characters, about 143 bits of randomness."""

import re
import secrets
import string

FILE_ID = re.compile(r"file-[0-9A-Za-z]{16,64}")  # ours, and those of imported files
UPLOAD_ID = re.compile(r"upload_[0-9a-f]{32}")

BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
ID_LENGTH = 24
TAIL_LENGTH = 8


def base62(length: int) -> str:
    return "".join(secrets.choice(BASE62) for _ in range(length))


def new_file_id() -> str:
    return f"file-{base62(ID_LENGTH)}"


def new_upload_id() -> str:
    return f"upload_{secrets.token_hex(16)}"


def new_part_id() -> str:
    return f"part_{secrets.token_hex(16)}"


def new_job_id() -> str:
    return f"ftjob-{base62(ID_LENGTH)}"


def new_event_id() -> str:
    return f"ftevent-{base62(ID_LENGTH)}"


def new_checkpoint_id() -> str:
    return f"ftckpt_{base62(ID_LENGTH)}"


def new_permission_id() -> str:
    return f"cp_{base62(ID_LENGTH)}"


def new_key_id() -> str:
    return f"key_{base62(ID_LENGTH)}"


def new_project_id() -> str:
    return f"proj_{base62(ID_LENGTH)}"


def new_api_key() -> str:
    """43 base62 characters are 256 bits, so one unsalted hash of it is safe to store."""
    return f"sk-tunesmith-{base62(43)}"


def suffix_slug(suffix: str | None) -> str:
    """The suffix as it stands in a name: lower case, anything but letters, digits, `_` and `.` becomes a dash."""
    return re.sub(r"[^\w.]+", "-", (suffix or "").lower()).strip("-")


def tuned_model_name(base: str, organization: str, suffix: str | None) -> str:
    """`ft:<base>:<organisation>:<suffix>:<8 characters>`; without a suffix its field is empty."""
    return f"ft:{base}:{organization}:{suffix_slug(suffix)}:{base62(TAIL_LENGTH)}"


def checkpoint_model_name(planned: str, step: int) -> str:
    """The name of an earlier checkpoint of the job whose model will be `planned`: another tail, and the step."""
    stem = planned.rpartition(":")[0]
    return f"{stem}:{base62(TAIL_LENGTH)}:ckpt-step-{step}"
