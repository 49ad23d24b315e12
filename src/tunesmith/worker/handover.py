"""Handing the server's settings to its worker: one line of JSON over the worker's standard input, secrets included.

A pipe is the one channel that nobody else can read: arguments are visible to every user of the machine, and the
environment passes to the trainers that the worker starts.
"""

import json
from collections.abc import Iterable, Mapping
from typing import TypeVar, get_args

from pydantic import BaseModel, Secret, SecretBytes, SecretStr
from pydantic_core import to_jsonable_python

from tunesmith.settings import Settings

AnySettings = TypeVar("AnySettings", bound=Settings)
SECRET_TYPES = (Secret, SecretBytes, SecretStr)


def settings_line(settings: Settings) -> bytes:
    """All settings as one line of JSON. Secrets are in clear, however deep they lie: keep it off disks and logs."""
    return json.dumps(settings.model_dump(), default=_plain).encode() + b"\n"


def read_settings(line: bytes, kind: type[AnySettings]) -> AnySettings:
    """The settings of a line that `settings_line` made."""
    return kind(**json.loads(line))


def without_secrets(environment: Mapping[str, str], kind: type[Settings]) -> dict[str, str]:
    """The environment without the variables of secret settings, for a process that is told them another way."""
    prefix = kind.model_config.get("env_prefix", "")
    secret = {f"{prefix}{name}".lower() for name in secret_fields(kind)}
    return {name: value for name, value in environment.items() if name.lower() not in secret}


def secret_fields(kind: type[BaseModel]) -> list[str]:
    """Names of the fields that are secret or contain a secret."""
    return [name for name, field in kind.model_fields.items() if _holds_secret(field.annotation)]


def _holds_secret(annotation: object) -> bool:
    """Looks into unions, containers and nested models."""
    if isinstance(annotation, type) and issubclass(annotation, SECRET_TYPES):
        return True
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return any(_holds_secret(field.annotation) for field in annotation.model_fields.values())
    parts: Iterable[object] = get_args(annotation)
    return any(_holds_secret(part) for part in parts)


def _plain(value: object) -> object:
    """What `json` cannot write by itself."""
    if isinstance(value, SECRET_TYPES):
        return value.get_secret_value()
    if isinstance(value, bytes):
        return value.decode()
    return to_jsonable_python(value)
