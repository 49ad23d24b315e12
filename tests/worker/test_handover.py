"""Secrets on their way to the worker: whole at its end, and nowhere else."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from tests.worker.settings_reader import READY, TOLD, FutureSettings

from tunesmith.settings import Settings
from tunesmith.worker.handover import read_settings, secret_fields, settings_line, without_secrets
from tunesmith.worker.process import WorkerProcess

PLAIN_SECRETS = ("serve_remote_key", "moderation_api_key", "wandb_api_key")
NESTED: dict[str, Any] = {
    "tokens": {"hub": "nested-secret-1"},
    "accounts": [{"user": "me", "password": "nested-secret-2"}],
    "pepper": "nested-secret-3",
}


def told_to_the_worker(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a process that is started as the worker is has learned."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    worker = WorkerProcess(settings, "settings_reader")
    worker.start()
    try:
        deadline = time.monotonic() + 30
        while not (settings.data_dir / READY).exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        worker.stop()
    told: dict[str, Any] = json.loads((settings.data_dir / TOLD).read_text("utf-8"))
    return told


def test_every_secret_reaches_the_worker_and_nothing_else_tells_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    given = {name: f"secret-of-{name}" for name in PLAIN_SECRETS}
    for name, value in given.items():  # as an operator sets them: the trainers would inherit these
        monkeypatch.setenv(f"TUNESMITH_{name.upper()}", value)
    told = told_to_the_worker(FutureSettings(data_dir=tmp_path, **NESTED), monkeypatch)
    assert {name: told["settings"][name] for name in (*given, *NESTED)} == given | NESTED
    shown = "".join(capfd.readouterr()) + json.dumps([told["environment"], told["arguments"]])
    assert "secret-of" not in shown
    assert "nested-secret" not in shown


def test_every_secret_setting_is_known_by_its_type() -> None:
    assert sorted(secret_fields(Settings)) == sorted(PLAIN_SECRETS)
    assert set(secret_fields(FutureSettings)) == {*PLAIN_SECRETS, *NESTED}


def test_a_line_of_settings_is_read_as_the_same_settings(tmp_path: Path) -> None:
    settings = FutureSettings(
        data_dir=tmp_path / "dätä", lora_targets=["q_proj"], aliases={"a": "b"}, wandb_api_key="k\n", **NESTED
    )
    line = settings_line(settings)
    assert line.count(b"\n") == 1
    assert read_settings(line, FutureSettings) == settings


@pytest.mark.parametrize("secret", ["a\nb", "\"'\\", "ünï 日本 😀", "\u2028\0", "", "x" * 100_000])
def test_a_secret_may_be_any_text(secret: str) -> None:
    settings = Settings(
        wandb_api_key=secret, serve_remote_key=secret, serve_remote={"a": ["http://x/v1/v1", "http://y"]}
    )
    line = settings_line(settings)
    assert line.count(b"\n") == 1
    assert read_settings(line, Settings) == settings


def test_environment_keeps_what_is_no_secret() -> None:
    given = {"PATH": "/bin", "TUNESMITH_PORT": "1", "tunesmith_wandb_api_key": "x", "TUNESMITH_SERVE_REMOTE_KEY": "y"}
    assert without_secrets(given, Settings) == {"PATH": "/bin", "TUNESMITH_PORT": "1"}
