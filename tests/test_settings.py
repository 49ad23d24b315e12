"""Where settings come from, what is refused, and names that were changed."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import SecretStr, ValidationError

from tunesmith.settings import OLD_NAMES, Settings
from tunesmith.settings.sources import _warn_once


def test_environment_wins_over_the_file_and_the_file_over_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tunesmith.toml").write_text('port = 8101\norganization = "acme"\n')
    monkeypatch.setenv("TUNESMITH_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TUNESMITH_PORT", "8102")
    settings = Settings()
    assert (settings.port, settings.organization, settings.lora_rank) == (8102, "acme", 16)
    assert settings.paths.database == tmp_path / "tunesmith.db"


def test_misspelt_setting_in_the_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tunesmith.toml").write_text("prot = 8101\n")
    monkeypatch.setenv("TUNESMITH_DATA_DIR", str(tmp_path))
    with pytest.raises(ValidationError, match="prot"):
        Settings()


def test_every_setting_has_a_line_of_help() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_server_binds_to_loopback_by_default() -> None:
    assert Settings().host == "127.0.0.1"


@pytest.mark.parametrize(
    ("text", "targets"),
    [("attention", "attention"), ("q_proj, v_proj", ["q_proj", "v_proj"]), ('["q_proj"]', ["q_proj"])],
)
def test_layers_to_train_are_read_from_the_environment(
    text: str, targets: str | list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNESMITH_LORA_TARGETS", text)
    assert Settings().lora_targets == targets
    assert Settings().training_options().lora_targets == targets


def test_layers_that_cannot_be_names_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_LORA_TARGETS", "model.layers.0.q_proj")
    with pytest.raises(ValidationError, match="neither one of all-linear, attention, mlp nor a list of layers' names"):
        Settings()


def test_tables_of_environment_and_file_are_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tunesmith.toml").write_text(
        '[aliases]\nmine = "a"\nboth = "a"\ngpt-4.1-mini = "a"\n[bases]\na = "/a"\n'
        '[serve_remote]\na = "http://a"\nx.y = ["http://x/v1/", "http://x", "http://y"]\ngone = "http://gone"\n'
    )
    monkeypatch.setenv("TUNESMITH_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TUNESMITH_ALIASES", '{"both": "b", "gpt-4.1-nano": "b"}')
    monkeypatch.setenv("TUNESMITH_BASES", '{"b": "/b"}')
    monkeypatch.setenv("TUNESMITH_SERVE_REMOTE", '{"gone": ""}')
    settings = Settings()
    assert settings.aliases == {"mine": "a", "both": "b", "gpt-4.1-mini": "a", "gpt-4.1-nano": "b"}
    assert settings.bases == {"a": "/a", "b": "/b"}
    assert settings.serve_remote == {"a": ["http://a"], "x.y": ["http://x", "http://y"]}


class Renamed(Settings):
    """A release in which two settings were renamed."""

    old_names: ClassVar[Mapping[str, str]] = {"listen_port": "port", "model_names": "aliases"}


@pytest.fixture
def fresh_warnings() -> Iterator[None]:
    """Each old name is told of once in a process, and a test before this one may have been told."""
    _warn_once.cache_clear()
    yield
    _warn_once.cache_clear()


@pytest.mark.usefixtures("fresh_warnings")
def test_old_name_in_the_environment_still_counts_and_is_told_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TUNESMITH_LISTEN_PORT", "8103")
    monkeypatch.setenv("TUNESMITH_MODEL_NAMES", '{"gpt-9": "smollm2-135m-instruct"}')
    assert (Renamed().port, Renamed().aliases["gpt-9"]) == (8103, "smollm2-135m-instruct")
    [first, second] = [record.getMessage() for record in caplog.records]
    assert first.startswith("TUNESMITH_LISTEN_PORT (environment) is now called TUNESMITH_PORT")
    assert second.startswith("TUNESMITH_MODEL_NAMES (environment) is now called TUNESMITH_ALIASES")


@pytest.mark.usefixtures("fresh_warnings")
def test_old_name_in_the_file_still_counts_behind_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "tunesmith.toml").write_text("listen_port = 8104\n")
    monkeypatch.setenv("TUNESMITH_DATA_DIR", str(tmp_path))
    assert Renamed().port == 8104
    [record] = caplog.records
    assert record.getMessage().startswith("listen_port (tunesmith.toml) is now called port")
    monkeypatch.setenv("TUNESMITH_PORT", "8105")
    assert Renamed().port == 8105


@pytest.mark.usefixtures("fresh_warnings")
def test_new_name_wins_over_the_old_one_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_LISTEN_PORT", "8103")
    monkeypatch.setenv("TUNESMITH_PORT", "8106")
    assert Renamed().port == 8106


def test_warning_of_an_old_name_is_one_line_on_standard_error(tmp_path: Path) -> None:
    code = "from tests.test_settings import Renamed; print(Renamed().port)"
    environment = {**os.environ, "TUNESMITH_LISTEN_PORT": "8107", "PYTHONPATH": os.pathsep.join(map(str, sys.path))}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout == "8107\n"
    assert ran.stderr.count("\n") == 1
    assert "TUNESMITH_LISTEN_PORT" in ran.stderr


def test_old_names_are_of_no_setting_and_lead_to_one() -> None:
    assert not OLD_NAMES.keys() & Settings.model_fields.keys()
    assert set(OLD_NAMES.values()) <= Settings.model_fields.keys()


def test_data_of_before_the_rename_still_switches_prompt_lookup_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tunesmith.toml").write_text("serve_drafts = false\n")
    monkeypatch.setenv("TUNESMITH_DATA_DIR", str(tmp_path))
    assert Settings().serve_prompt_lookup is False


def test_repr_shows_no_password(tmp_path: Path) -> None:
    url = "postgresql://tunesmith:s3cret@localhost/tunesmith"
    key = SecretStr("s3cret")
    settings = Settings(data_dir=tmp_path, database_url=url, wandb_api_key=key, moderation_api_key=key)
    assert settings.database_url == url
    assert "s3cret" not in repr(settings)
