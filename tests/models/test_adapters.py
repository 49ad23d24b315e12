import json
from pathlib import Path
from traceback import format_exception

import pytest
import torch

from tunesmith import __version__
from tunesmith.errors import ServerFault, WeightsMissing
from tunesmith.models.adapters import (
    FORMAT_VERSION,
    MANIFEST_FILE,
    TENSORS_FILE,
    AdapterManifest,
    check_tensors,
    load_tensors,
    read_manifest,
    write_adapter,
)

MANIFEST = AdapterManifest(
    base_name="smollm2-135m-instruct",
    base_fingerprint="0123456789abcdef",
    renderer="chat-template-v1-0",
    rank=4,
    alpha=8.0,
    target_modules=("q_proj",),
    step=10,
)
NAME = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


def test_adapter_comes_back_as_written(tmp_path: Path) -> None:
    tensors = {NAME: torch.randn(4, 8)}
    written = write_adapter(tmp_path / "adapter", tensors, MANIFEST)
    assert read_manifest(tmp_path / "adapter") == written
    assert torch.equal(load_tensors(tmp_path / "adapter")[NAME], tensors[NAME])


def test_directory_without_a_manifest_is_no_adapter(tmp_path: Path) -> None:
    write_adapter(tmp_path, {NAME: torch.zeros(4, 8)}, MANIFEST)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(ServerFault, match="no usable adapter"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("file", ["manifest.json", "adapter_model.safetensors", "adapter_config.json"])
def test_a_missing_file_is_no_fault_that_asking_again_would_mend(tmp_path: Path, file: str) -> None:
    write_adapter(tmp_path, {NAME: torch.zeros(4, 8)}, MANIFEST)
    (tmp_path / file).unlink()
    with pytest.raises(WeightsMissing, match=f"its {file} is missing") as caught:
        check_tensors(tmp_path)
    assert (caught.value.status, caught.value.code) == (400, "model_without_weights")
    assert caught.value.__notes__ == [f"The adapter's files: {tmp_path}"]


def test_changed_tensors_are_refused(tmp_path: Path) -> None:
    write_adapter(tmp_path, {NAME: torch.zeros(4, 8)}, MANIFEST)
    path = tmp_path / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ServerFault, match="does not match its manifest"):
        load_tensors(tmp_path)


def test_config_is_pefts(tmp_path: Path) -> None:
    from peft import LoraConfig

    write_adapter(tmp_path, {NAME: torch.zeros(4, 8)}, MANIFEST)
    config = LoraConfig.from_pretrained(str(tmp_path))
    assert (config.r, config.lora_alpha, set(config.target_modules)) == (4, 8.0, {"q_proj"})
    assert json.loads((tmp_path / "adapter_config.json").read_text())["peft_type"] == "LORA"


def write_changed_manifest(directory: Path, **changes: object) -> None:
    """A good manifest with some keys changed; None takes a key away."""
    write_adapter(directory, {NAME: torch.zeros(4, 8)}, MANIFEST)
    path = directory / MANIFEST_FILE
    values = {**json.loads(path.read_text("utf-8")), **changes}
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not None}), "utf-8")


def test_a_newer_format_is_refused_with_both_versions_and_the_way_out(tmp_path: Path) -> None:
    write_changed_manifest(tmp_path, format_version=FORMAT_VERSION + 1, rank=None)  # where other keys may differ too
    with pytest.raises(ServerFault) as caught:
        read_manifest(tmp_path)
    assert str(caught.value) == (
        f"This model's adapter has format version 2 (in manifest.json); this Tunesmith ({__version__}) reads"
        " versions up to 1. Update Tunesmith, or train again with this one."
    )


def test_a_manifest_of_an_older_version_is_read(tmp_path: Path) -> None:
    """Of before `adapter` and `format_version`, and with a key that has gone since."""
    write_changed_manifest(tmp_path, adapter=None, format_version=None, quantization="none")
    manifest = read_manifest(tmp_path)
    assert (manifest.adapter, manifest.format_version, manifest.rank) == ("lora", 1, 4)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"rank": None}, "rank: Field required"),
        ({"rank": "4"}, "rank: Input should be a valid integer"),
        ({"alpha": "much"}, "alpha: Input should be a valid number"),
        ({"target_modules": "q_proj"}, "target_modules: Input should be a valid array"),
        ({"target_modules": ["q_proj", 1]}, "target_modules.1: Input should be a valid string"),
        ({"adapter": "dora"}, "adapter: Input should be 'lora'"),
        ({"format_version": "1"}, "format_version: Input should be a valid integer"),
    ],
    ids=str,
)
def test_a_malformed_manifest_is_a_sentence_with_the_key(
    changes: dict[str, object], fault: str, tmp_path: Path
) -> None:
    write_changed_manifest(tmp_path, **changes)
    with pytest.raises(ServerFault) as caught:
        read_manifest(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"This model has no usable adapter: its manifest.json is damaged ({fault}")
    assert message.endswith("Restore the file, or train again.")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '"text"', '{"base_name": "\ud800"}'], ids=str)
def test_what_is_no_manifest_at_all_is_a_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / MANIFEST_FILE).write_text(text, "utf-8", "surrogatepass")
    with pytest.raises(ServerFault, match=r"has no usable adapter: its manifest\.json is damaged \("):
        read_manifest(tmp_path)


@pytest.mark.parametrize("change", [{"rank": 0}, {"rank": -1}, {"alpha": 0.0}, {"alpha": -1.0}, {"alpha": 1e999}])
def test_a_scaling_that_cannot_be_computed_is_a_sentence(change: dict[str, object], tmp_path: Path) -> None:
    write_changed_manifest(tmp_path, **change)
    with pytest.raises(ServerFault, match=r"has no usable adapter: its manifest\.json is damaged \(rank"):
        read_manifest(tmp_path)


def test_tuned_weights_need_no_scaling(tmp_path: Path) -> None:
    write_changed_manifest(tmp_path, adapter="none", rank=0, alpha=0.0)
    assert read_manifest(tmp_path).rank == 0


def test_a_manifest_that_is_a_directory_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / MANIFEST_FILE).mkdir()
    with pytest.raises(ServerFault, match="no usable adapter"):
        read_manifest(tmp_path)


def test_no_sentence_names_a_path_but_the_log_has_it(tmp_path: Path) -> None:
    with pytest.raises(
        ServerFault, match=r"its manifest\.json is missing\. Restore the file, or train again\."
    ) as caught:
        read_manifest(tmp_path)
    write_adapter(tmp_path, {NAME: torch.zeros(4, 8)}, MANIFEST)
    (tmp_path / TENSORS_FILE).write_bytes(b"")
    with pytest.raises(ServerFault, match=r"adapter_model\.safetensors does not match its manifest") as changed:
        check_tensors(tmp_path)
    for error in (caught.value, changed.value):
        assert str(tmp_path) not in error.message
        assert str(tmp_path) in "".join(format_exception(error))


def test_missing_tensors_are_a_sentence(tmp_path: Path) -> None:
    write_adapter(tmp_path, {NAME: torch.zeros(4, 8)}, MANIFEST)
    (tmp_path / TENSORS_FILE).unlink()
    with pytest.raises(ServerFault, match=r"adapter_model\.safetensors"):
        load_tensors(tmp_path)
