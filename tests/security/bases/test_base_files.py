"""What a base's files say is not believed: sizes, places and names are judged before a library reads them."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.models.conftest import tiny_dir, tiny_model
from tests.models.test_base_check import said_of, set_config

from tunesmith.errors import ServerFault
from tunesmith.jsonvalue import JsonObject
from tunesmith.models.adapters import (
    CONFIG_FILE,
    MANIFEST_FILE,
    AdapterManifest,
    check_tensors,
    load_tensors,
    read_manifest,
    write_adapter,
)
from tunesmith.models.base_check import check_base
from tunesmith.models.headers.safetensors_header import BadHeader, read_header
from tunesmith.models.weights import load_model

__all__ = ["tiny_dir", "tiny_model"]

Break = Callable[[Path], object]


def name_in_index(place: str) -> Break:
    index = {"weight_map": {"a": "model.safetensors", "b": place}}
    return lambda d: (d / "model.safetensors.index.json").write_text(json.dumps(index))


def link_outside(name: str) -> Break:
    def link(directory: Path) -> None:
        (directory / name).rename(directory.parent / name)
        (directory / name).symlink_to(directory.parent / name)

    return link


def set_tokenizer(**value: object) -> Break:
    return lambda d: (d / "tokenizer.json").write_text(json.dumps({"model": {}, **value}))


CASES: dict[str, tuple[Break, str]] = {
    "index names a pickle": (name_in_index("pytorch_model.bin"), "its model.safetensors.index.json names 'pytorch_mo"),
    "index leads up": (name_in_index("../a/model.safetensors"), "its model.safetensors.index.json names '../a/model"),
    "index is absolute": (name_in_index("/tmp/model.safetensors"), "its model.safetensors.index.json names '/tmp/mod"),
    "index has no map": (
        lambda d: (d / "model.safetensors.index.json").write_text("{}"),
        "its model.safetensors.index.json has no weight_map",
    ),
    "weights linked": (link_outside("model.safetensors"), "model.safetensors is a link to a file outside its dir"),
    "tokenizer linked": (link_outside("tokenizer.json"), "tokenizer.json is a link to a file outside"),
    "template linked": (link_outside("chat_template.jinja"), "chat_template.jinja is a link to a file outside"),
    "kernels": (
        lambda d: set_config(d, _attn_implementation="someone/kernels"),
        "its config.json has _attn_implementation 'someone/kernels': code from elsewhere is never run",
    ),
    "kernels by the other name": (lambda d: set_config(d, attn_implementation={"": "a/b:c"}), "its config.json has at"),
    "kernels inside": (lambda d: set_config(d, x=[{"experts_implementation": "a/b"}]), "its config.json has experts"),
    "another base": (lambda d: (d / "adapter_config.json").write_text("{}"), "its directory has an adapter_config"),
    "wide": (lambda d: set_config(d, hidden_size=10**9), "its config.json has hidden_size 1000000000, and its largest"),
    "deep": (lambda d: set_config(d, num_hidden_layers=10**6), "its config.json has num_hidden_layers 1000000, and th"),
    "many words": (lambda d: set_config(d, vocab_size=10**12), "its config.json has vocab_size 1000000000000, and"),
    "no head": (lambda d: set_config(d, num_attention_heads=0), "its config.json has num_attention_heads 0, and its"),
    "negative": (lambda d: set_config(d, intermediate_size=-1), "its config.json has intermediate_size -1, and its"),
    "true": (lambda d: set_config(d, num_key_value_heads=True), "its config.json has num_key_value_heads True, and"),
    "odd heads": (
        lambda d: set_config(d, num_attention_heads=4, num_key_value_heads=3),
        "its config.json has num_attention_heads 4, which is no multiple of num_key_value_heads 3",
    ),
    "long": (lambda d: set_config(d, max_position_embeddings=10**15), "its config.json has max_position_embeddings"),
    "added ids": (set_tokenizer(added_tokens=[{"id": 10**9}]), "its tokenizer.json has a token with the id 1000000000"),
    "ids": (set_tokenizer(model={"vocab": {"a": 4 * 10**9}}), "its tokenizer.json has a token with the id 4000000000"),
    "added": (set_tokenizer(added_tokens=[{"id": 1}] * 100_001), "its tokenizer.json has no list of at most 100,000"),
    "deep json": (
        lambda d: (d / "config.json").write_text('{"a":' * 100_000 + "1" + "}" * 100_000),
        "its config.json is not a JSON object",
    ),
    "large json": (lambda d: set_config(d, x="a" * (17 << 20)), "config.json has 17,8"),
    "generation": (lambda d: (d / "generation_config.json").write_text("[]"), "its generation_config.json is not a"),
    "directory": (lambda d: (d / "b.safetensors").mkdir(), "b.safetensors is not a file"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_base_that_says_more_than_it_has_is_refused_by_name(tiny_dir: Path, case: str) -> None:
    break_it, said = CASES[case]
    break_it(tiny_dir)
    assert said_of(tiny_dir).startswith(said)


def test_code_beside_the_weights_is_never_run(tiny_dir: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    for name in ("modeling_x.py", "configuration_x.py"):
        (tiny_dir / name).write_text(f"open({str(ran)!r}, 'w')\nclass X: pass\n")
    maps = {"AutoConfig": "configuration_x.X", "AutoModelForCausalLM": "modeling_x.X"}
    set_config(tiny_dir, auto_map=maps, trust_remote_code=True)
    (tiny_dir / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "X", "auto_map": maps}))
    check_base(tiny_dir, "mine")
    assert load_model(tiny_dir, torch.float32).config.model_type == "llama"
    assert not ran.exists()


def test_pickled_weights_come_with_the_way_to_convert_them(tiny_dir: Path) -> None:
    (tiny_dir / "model.safetensors").rename(tiny_dir / "model.pt")
    assert "convert them to safetensors first. There: python -c" in said_of(tiny_dir)


def test_the_hubs_cache_may_link_to_its_own_blobs(tiny_dir: Path, tmp_path: Path) -> None:
    repository = tmp_path / "models--a--b"
    (repository / "snapshots").mkdir(parents=True)
    (repository / "blobs").mkdir()
    snapshot = tiny_dir.rename(repository / "snapshots" / "0123")
    for path in [*snapshot.iterdir()]:
        path.rename(repository / "blobs" / path.name)
        path.symlink_to(Path("../../blobs") / path.name)
    check_base(snapshot, "mine")


def one(start: int, end: int, shape: list[int] | None = None, dtype: str = "F32") -> JsonObject:
    return {"dtype": dtype, "shape": [*(shape or [(end - start) // 4])], "data_offsets": [start, end]}


HEADERS: dict[str, tuple[bytes, str]] = {
    "overlap": (json.dumps({"a": one(0, 8), "b": one(4, 16)}).encode(), "'b' does not begin where the one before"),
    "gap": (json.dumps({"a": one(0, 4), "b": one(8, 16)}).encode(), "'b' does not begin where the one before"),
    "backwards": (json.dumps({"a": one(16, 0, [4])}).encode(), "'a' has no dtype, shape and data_offsets"),
    "another size": (json.dumps({"a": one(0, 16, [99])}).encode(), "'a' has no dtype, shape and data_offsets"),
    "another dtype": (json.dumps({"a": one(0, 16, [4], "F64")}).encode(), "'a' has no dtype, shape and data_offsets"),
    "unknown dtype": (json.dumps({"a": one(0, 16, [4], "PICKLE")}).encode(), "'a' has no dtype, shape and data_off"),
    "negative": (json.dumps({"a": one(0, 16, [-2, -2])}).encode(), "'a' has no dtype, shape and data_offsets"),
    "beyond": (json.dumps({"a": one(0, 1600)}).encode(), "and the file at byte"),
    "short": (json.dumps({"a": one(0, 8)}).encode(), "and the file at byte"),
    "twice": (b'{"a": 1, "a": 2}', "names a tensor twice"),
    "no object": (b"[1]", "not a JSON object"),
    "no text": (b"\xff\xff", "not a JSON object"),
    "deep": (b"[" * 100_000, "not a JSON object"),
    "empty": (b"{}", "it has no tensors"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_a_safetensors_header_is_judged_against_its_file(case: str, tmp_path: Path) -> None:
    header, said = HEADERS[case]
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))
    with pytest.raises(BadHeader, match=said):
        read_header(path)
    path.write_bytes(struct.pack("<Q", 1 << 62) + header)
    with pytest.raises(BadHeader, match="longer than the file"):
        read_header(path)


ADAPTER = AdapterManifest("base", "f" * 16, "renderer", rank=4, alpha=8.0, target_modules=("q_proj",), step=1)


def write(directory: Path) -> Path:
    write_adapter(directory, {"base_model.model.a.lora_A.weight": torch.zeros(4, 8)}, ADAPTER)
    return directory


def change(path: Path, **values: object) -> None:
    kept = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps({key: value for key, value in kept.items() if value is not None}))


@pytest.mark.parametrize("older", [False, True], ids=["with digest", "of an older version"])
@pytest.mark.parametrize(
    "values", [{"lora_alpha": 8000.0}, {"r": 0}, {"r": 2}, {"lora_alpha": float("nan")}, {"use_rslora": True}], ids=str
)
def test_a_changed_adapter_config_is_not_served(older: bool, values: dict[str, object], tmp_path: Path) -> None:
    directory = write(tmp_path)
    if older:
        change(directory / MANIFEST_FILE, config_sha256=None)
        assert load_tensors(directory)  # untouched, it opens
    change(directory / CONFIG_FILE, **values)
    with pytest.raises(ServerFault, match=r"adapter_config\.json (does not match its manifest|is damaged)"):
        check_tensors(directory)


def test_the_manifest_has_the_digest_of_the_adapter_config(tmp_path: Path) -> None:
    directory = write(tmp_path)
    assert len(read_manifest(directory).config_sha256) == 64
    change(directory / CONFIG_FILE, target_modules=["k_proj"])
    with pytest.raises(ServerFault, match=r"adapter_config\.json does not match its manifest"):
        load_tensors(directory)
