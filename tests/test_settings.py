from pathlib import Path

import pytest
from pydantic import ValidationError

from tunesmith.settings import Settings


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
