"""What is said of a directory that is no base, without a path in it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tunesmith.errors import InvalidRequest
from tunesmith.models.base_check import check_base
from tunesmith.models.directory import check_usable, materialise
from tunesmith.models.registry import resolve_base
from tunesmith.settings import Settings

Break = Callable[[Path], object]


def said_of(directory: Path) -> str:
    with pytest.raises(InvalidRequest) as caught:
        check_base(directory, "mine")
    assert (caught.value.code, caught.value.param) == ("base_not_usable", "model")
    message = caught.value.message
    assert str(directory) not in message
    assert message.startswith("Base mine cannot be used: ")
    return message.removeprefix("Base mine cannot be used: ")


def test_a_whole_directory_is_a_base(tiny_dir: Path) -> None:
    check_base(tiny_dir, "mine")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def set_config(directory: Path, **changes: object) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def index(directory: Path) -> None:
    files = {"a": "model.safetensors", "b": "model-00002.safetensors", "c": "model-00003.safetensors"}
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))


def only_adapter(directory: Path) -> None:
    (directory / "config.json").rename(directory / "adapter_config.json")


def pickled(directory: Path) -> None:
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")


def pointer(name: str) -> Break:
    return lambda directory: (directory / name).write_text("version https://git-lfs.github.com/spec/v1\nsize 9\n")


CASES: dict[str, tuple[Break, str]] = {
    "no config": (lambda d: (d / "config.json").unlink(), "its directory has no config.json, so it is not a usable"),
    "adapter": (only_adapter, "it is a LoRA adapter (adapter_config.json), not a base"),
    "config broken": (lambda d: (d / "config.json").write_text("{"), "its config.json is not a JSON object"),
    "family": (lambda d: set_config(d, model_type="gpt2"), "the family gpt2 is not supported"),
    "quantized": (
        lambda d: set_config(d, quantization_config={"quant_method": "awq"}),
        "its weights are quantized (awq format)",
    ),
    "no tokenizer": (lambda d: (d / "tokenizer.json").unlink(), "its directory has no tokenizer.json. Copy"),
    "sentencepiece": (
        lambda d: (d / "tokenizer.json").rename(d / "tokenizer.model"),
        "its directory has no tokenizer.json but tokenizer.model. Convert it there: python -c",
    ),
    "tokenizer broken": (lambda d: cut(d / "tokenizer.json"), "its tokenizer.json is damaged or incomplete"),
    "tokenizer pointer": (pointer("tokenizer.json"), "its tokenizer.json is a Git LFS pointer"),
    "no weights": (lambda d: (d / "model.safetensors").unlink(), "its directory has no weights (*.safetensors)."),
    "pickled": (pickled, "its directory has no weights (*.safetensors). Pickled weights (*.bin) are not read"),
    "gguf": (
        lambda d: (d / "model.safetensors").rename(d / "m.gguf"),
        "its directory has no weights (*.safetensors). Of GGUF files one is a base",
    ),
    "weights cut": (lambda d: cut(d / "model.safetensors"), "model.safetensors is damaged or incomplete: download"),
    "weights empty": (lambda d: (d / "model.safetensors").write_bytes(b""), "model.safetensors is damaged"),
    "weights pointer": (pointer("model.safetensors"), "model.safetensors is a Git LFS pointer instead of the file"),
    "shards": (index, "its weights are incomplete: model-00002.safetensors and 1 more of model.safetensors.index"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_named(tiny_dir: Path, case: str) -> None:
    break_it, said = CASES[case]
    if case == "tokenizer broken":
        (tiny_dir / "tokenizer.json").write_text('{"model": {' + " " * 200)
    break_it(tiny_dir)
    assert said_of(tiny_dir).startswith(said)


def test_a_place_that_is_no_directory_is_named(tmp_path: Path) -> None:
    assert said_of(tmp_path / "gone") == "its directory does not exist."
    for name, said in {"m.gguf": "it is a GGUF file. Add it by", "m.txt": "it is a file, not a"}.items():
        (tmp_path / name).touch()
        assert said_of(tmp_path / name).startswith(said)


@pytest.mark.parametrize("where", ["./models/x", "models", "a/b/c"])
def test_a_relative_path_is_refused_wherever_it_leads(where: str) -> None:
    settings = Settings(bases={"mine": where})
    base = resolve_base("mine", settings)
    for use in (check_usable, materialise):
        with pytest.raises(InvalidRequest, match=r"is neither a hub id \(OWNER/NAME\) nor an absolute path"):
            use(base, settings)


def test_a_relative_directory_is_not_taken_for_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path stays out of it: a client of the API reads the sentence too."""
    (tmp_path / "models" / "x").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    settings = Settings(bases={"mine": "models/x"})
    base = resolve_base("mine", settings)
    for use in (check_usable, materialise):
        with pytest.raises(InvalidRequest) as caught:
            use(base, settings)
        assert caught.value.message == (
            "Base mine cannot be used: 'models/x' in the setting `bases` is taken for a repository of the Hugging Face"
            " hub (OWNER/NAME), but there is a directory called so. Write the whole path: the server and a command may"
            " run in different directories."
        )


def test_a_changed_tokenizer_is_looked_at_again(tiny_dir: Path) -> None:
    check_base(tiny_dir, "mine")
    (tiny_dir / "tokenizer.json").write_text("[]")
    assert "tokenizer.json is damaged" in said_of(tiny_dir)
