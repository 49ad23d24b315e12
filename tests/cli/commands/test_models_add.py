"""`tunesmith models add`: what is said before a base is fetched, how it is pinned, and what is refused."""

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.conftest import Tunesmith
from tests.families.zoo import ZOO, write
from tests.models.hub_server import SHA, Hub, running, use

from tunesmith.cli.commands.models import look
from tunesmith.models.needs import needs

REPOSITORY = "owner/name"


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A tiny random Llama with the files that a base has."""
    directory = write(ZOO["llama"], tmp_path / "tiny")
    (directory / "tokenizer.json").write_text('{"model": {}}', "utf-8")
    (directory / "tokenizer_config.json").write_text("{}", "utf-8")
    return directory


@pytest.fixture
def hub(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setenv("TUNESMITH_CACHE_DIR", str(tmp_path / "cache"))
    with running(Hub(licence="apache-2.0")) as server:
        use(server, tmp_path / "hub", monkeypatch)
        server.add(REPOSITORY, tiny)
        yield server


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "tunesmith.toml"


def test_a_repository_is_looked_at_fetched_and_pinned_to_its_commit(tunesmith: Tunesmith, hub: Hub, file: Path) -> None:
    ran = tunesmith("models", "add", "mine", "--from", REPOSITORY)
    assert (ran.code, ran.out) == (0, f"mine is a base now (owner/name@{SHA}; in {file})\n")
    lines = ran.err.splitlines()
    assert lines[0] == "Looking at owner/name …"
    assert lines[1] == "licence: apache-2.0"
    assert lines[2].startswith("size: ")
    assert lines[2].endswith(f" at commit {SHA[:12]}")
    assert lines[3].startswith("fits this machine: training (a LoRA on the CPU, rows of 1,024 tokens) needs 0.")
    assert tomllib.loads(file.read_text("utf-8")) == {"bases": {"mine": f"owner/name@{SHA}"}}
    hub.refusals[REPOSITORY] = (500, "")
    assert tunesmith("models", "pull", "mine").code == 0  # all of it is here


def test_a_dry_run_tells_all_and_fetches_no_weights(tunesmith: Tunesmith, hub: Hub, file: Path) -> None:
    found = tunesmith("models", "add", "mine", REPOSITORY, "--dry-run", "--json").json
    assert isinstance(found, dict)
    assert found["licence"] == "apache-2.0"
    assert found["size_bytes"] == sum(map(len, hub.files[REPOSITORY].values()))
    config = json.loads(hub.files[REPOSITORY]["config.json"])
    assert found["training_bytes"] == needs(config, found["parameters"]).training
    assert hub.fetched == ["config.json"]
    assert not file.exists()


def test_what_does_not_fit_is_not_fetched_unless_it_is_wanted(
    tunesmith: Tunesmith, hub: Hub, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look, "total_memory", lambda: 500_000_000)
    ran = tunesmith("models", "add", "mine", REPOSITORY)
    assert ran.code == 1
    assert "does not fit this machine: training (" in ran.err
    assert "; this machine has 0.5 GB" in ran.err
    assert "mine does not fit this machine and was not added." in ran.err
    assert hub.fetched == ["config.json"]
    assert not file.exists()
    assert tunesmith("models", "add", "mine", REPOSITORY, "--anyway").code == 0


def test_a_family_that_is_not_tuned_is_refused_by_its_config_alone(tunesmith: Tunesmith, hub: Hub, file: Path) -> None:
    config = {"architectures": ["T5ForConditionalGeneration"], "model_type": "t5", "is_encoder_decoder": True}
    hub.files[REPOSITORY]["config.json"] = json.dumps(config).encode()
    ran = tunesmith("models", "add", "mine", REPOSITORY)
    assert "Base mine cannot be used: it is an encoder-decoder (T5For" in ran.err
    assert hub.fetched == ["config.json"]
    assert not file.exists()


@pytest.mark.parametrize(
    ("refusal", "gated", "said"),
    [
        ((404, "RepoNotFound"), None, "there is no repository owner/name on the Hugging Face hub, or it is private"),
        (None, (401, "GatedRepo"), "owner/name is gated. Accept its terms at https://huggingface.co/owner/name, then"),
        (None, (403, "GatedRepo"), "wait for its authors' consent where they give it by hand"),
    ],
    ids=["404", "401", "403"],
)
def test_a_repository_that_is_not_given_out_says_why_and_what_to_do(
    tunesmith: Tunesmith,
    hub: Hub,
    file: Path,
    refusal: tuple[int, str] | None,
    gated: tuple[int, str] | None,
    said: str,
) -> None:
    hub.gated = gated
    if refusal is not None:
        hub.refusals[REPOSITORY] = refusal
    ran = tunesmith("models", "add", "mine", REPOSITORY)
    assert ran.code == 1
    assert said in ran.err
    assert not file.exists()


def test_a_name_of_the_catalogue_needs_no_source_and_another_name_says_what_to_give(
    tunesmith: Tunesmith, hub: Hub, tiny: Path, file: Path
) -> None:
    hub.licence = None
    hub.add("Qwen/Qwen3-0.6B", tiny)
    ran = tunesmith("models", "add", "qwen3-0.6b")
    assert "licence: Apache-2.0" in ran.err  # as the catalogue has it
    assert tomllib.loads(file.read_text("utf-8")) == {"bases": {"qwen3-0.6b": f"Qwen/Qwen3-0.6B@{SHA}"}}
    unknown = tunesmith("models", "add", "qwen9")
    assert unknown.code == 2
    assert "The catalogue has no 'qwen9', so say where it comes from: tunesmith models add qwen9 --from" in unknown.err
    assert "qwen3-0.6b, qwen3-1.7b" in unknown.err
    assert tunesmith("models", "add", "mine", REPOSITORY, "--from", REPOSITORY).code == 2
