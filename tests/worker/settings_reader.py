"""Stands in for the worker of `test_handover`: writes what it was told, and what others could see, to a file."""

import json
import os
import sys
import threading
from pathlib import Path

from pydantic import BaseModel, Field, SecretBytes, SecretStr

from tunesmith.settings import Settings
from tunesmith.worker.process import inherited_settings

TOLD, READY = "told.json", "ready"


class Account(BaseModel):
    """A model within the settings, with a secret of its own."""

    user: str
    password: SecretStr


class FutureSettings(Settings):
    """Secrets as a later version may add them: in containers, in models, as bytes."""

    tokens: dict[str, SecretStr] = Field(default_factory=dict)
    accounts: list[Account] = Field(default_factory=list)
    pepper: SecretBytes | None = None


def revealed(value: object) -> object:
    """The same value with every secret in clear."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, SecretBytes):
        return value.get_secret_value().decode()
    if isinstance(value, dict):
        return {key: revealed(one) for key, one in value.items()}
    return [revealed(one) for one in value] if isinstance(value, list | tuple) else value


def main() -> None:
    stop = threading.Event()
    settings = inherited_settings(stop, FutureSettings)
    print(settings, repr(settings), settings.model_dump_json(), file=sys.stderr)  # as a careless log line would
    told = {"settings": revealed(settings.model_dump()), "environment": dict(os.environ), "arguments": sys.orig_argv}
    (settings.data_dir / TOLD).write_text(json.dumps(told, default=str), "utf-8")
    (Path(settings.data_dir) / READY).touch()
    stop.wait(60)


if __name__ == "__main__":
    main()
