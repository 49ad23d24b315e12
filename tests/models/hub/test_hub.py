"""Bases from a hub: downloaded once, refused before their weights are fetched, and errors with what to do."""

import json
from pathlib import Path

import pytest
from tests.models.hub_server import Hub

from tunesmith.errors import InvalidRequest, ServerFault
from tunesmith.models.directory import check_usable, is_present, materialise, pull
from tunesmith.models.registry import BaseModel, HubRepository
from tunesmith.settings import Settings

REPOSITORY = "owner/name"
BASE = BaseModel("mine", HubRepository(REPOSITORY), None)


def test_a_repository_is_downloaded_once_and_without_code(hub: Hub, settings: Settings, tiny_dir: Path) -> None:
    files = hub.files[REPOSITORY]
    files |= {"pytorch_model.bin": b"x", "modeling.py": b"x", "consolidated.safetensors": b"x", "onnx/m.json": b"{}"}
    assert not is_present(BASE, settings)
    steps: list[tuple[Path, int | None]] = []

    def started(folder: Path | None, total: int | None, step: str = "") -> None:
        assert folder is not None
        steps.append((folder, total))

    directory = pull(BASE, settings, started)
    assert {path.name for path in directory.iterdir()} == {path.name for path in tiny_dir.iterdir()}
    assert [total for _, total in steps] == [sum(path.stat().st_size for path in tiny_dir.iterdir())]
    assert sum(path.stat().st_size for path in steps[0][0].iterdir()) == steps[0][1]
    hub.fetched.clear()
    hub.refusals[REPOSITORY] = (500, "")
    assert materialise(BASE, settings) == directory  # asks no network
    assert pull(BASE, settings) == directory  # would look for newer files, and does without
    assert is_present(BASE, settings)
    assert hub.fetched == []


def test_what_an_interrupted_download_left_is_not_taken_for_a_base(hub: Hub, settings: Settings) -> None:
    folder = pull(BASE, settings)
    (folder / "model.safetensors").unlink()
    assert not is_present(BASE, settings)
    assert (materialise(BASE, settings) / "model.safetensors").is_file()


def test_a_family_that_is_not_supported_costs_no_download_of_weights(hub: Hub, settings: Settings) -> None:
    config = {"architectures": ["T5ForConditionalGeneration"], "model_type": "t5", "is_encoder_decoder": True}
    hub.files[REPOSITORY]["config.json"] = json.dumps(config).encode()
    with pytest.raises(InvalidRequest, match=r"Base mine cannot be used: it is an encoder-decoder \(T5For"):
        pull(BASE, settings)
    assert hub.fetched == ["config.json"]
    with pytest.raises(InvalidRequest, match="encoder-decoder"):  # at job creation, without the network
        check_usable(BASE, settings)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["config.json", "tokenizer.json", "tokenizer_config.json", "m.gguf"], "its repository has GGUF files only"),
        (
            ["config.json", "tokenizer.json", "tokenizer_config.json", "pytorch_model.bin"],
            r"pickled weights \(\*\.bin\) only",
        ),
        (["adapter_config.json", "adapter_model.safetensors"], "its repository holds a LoRA adapter, not a base"),
        (
            ["config.json", "model.safetensors"],
            r"its repository has no tokenizer\.json and no tokenizer_config\.json\.",
        ),
        (["README.md"], r"no config\.json and no tokenizer\.json and no tokenizer_config\.json and no \*\.safetensors"),
    ],
    ids=["gguf", "pickled", "adapter", "no-tokenizer", "nothing"],
)
def test_a_repository_without_a_base_is_told_what_it_lacks(
    hub: Hub, settings: Settings, files: list[str], said: str
) -> None:
    hub.files[REPOSITORY] = dict.fromkeys(files, b"{}")
    with pytest.raises(InvalidRequest, match=said):
        pull(BASE, settings)
    assert hub.fetched == []


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        (
            (401, "GatedRepo"),
            r"owner/name is gated\. Accept its terms at https://huggingface\.co/owner/name, then log in here",
        ),
        ((404, "RepoNotFound"), r"there is no repository owner/name .* or it is private\. Check the spelling"),
        ((401, ""), r"the Hugging Face hub refuses access to owner/name \(401\)\. Log in"),
    ],
    ids=["gated", "unknown", "unauthorized"],
)
def test_a_repository_that_cannot_be_had_says_what_to_do(
    hub: Hub, settings: Settings, refusal: tuple[int, str], said: str
) -> None:
    hub.refusals[REPOSITORY] = refusal
    with pytest.raises(InvalidRequest, match=said):
        pull(BASE, settings)


def test_a_hub_that_fails_is_told_with_its_status(hub: Hub, settings: Settings) -> None:
    hub.refusals[REPOSITORY] = (502, "")
    with pytest.raises(ServerFault, match=r"hub answered 502 for owner/name; try again later"):
        pull(BASE, settings)


def test_no_network_says_how_to_do_without(hub: Hub, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(
        ServerFault, match=r"Could not reach the Hugging Face hub for owner/name \(.*refused\)"
    ) as caught:
        pull(BASE, settings)
    assert "tunesmith models add mine ABSOLUTE_PATH" in caught.value.message


def test_a_disk_that_is_too_small_is_told_before_the_download(hub: Hub, settings: Settings) -> None:
    hub.sizes["model.safetensors"] = 10**18
    with pytest.raises(
        ServerFault, match=r"mine takes 1000000000\.0 GB of disk, and .* are free\. Free some, or set HF_HOME"
    ):
        pull(BASE, settings)
    assert "model.safetensors" not in hub.fetched
