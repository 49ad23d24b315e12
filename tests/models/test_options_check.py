import importlib.util
import json
from pathlib import Path

import pytest

from tunesmith.errors import InvalidRequest
from tunesmith.families.config_file import SIZES
from tunesmith.models import options_check
from tunesmith.models.adapters import AdapterManifest
from tunesmith.models.options_check import CARDS, check_options, check_serving
from tunesmith.settings import Settings, TrainingOptions
from tunesmith.system.memory import total_memory

PARENT = AdapterManifest("b", "", "", rank=8, alpha=4.0, target_modules=("q_proj", "v_proj"), step=1)


def test_layers_that_the_base_lacks_are_refused_with_those_it_has(tiny_dir: Path) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_options(TrainingOptions(lora_targets="q_proj,foo"), tiny_dir, "tiny")
    assert caught.value.message.startswith(
        "lora_targets has 'foo', but the blocks of tiny have no such layer. They have"
    )
    assert (caught.value.param, caught.value.code) == ("tunesmith.lora_targets", "invalid_lora_targets")
    check_options(TrainingOptions(lora_targets="foo"), None, "tiny")  # the weights are not here: the worker looks
    check_options(TrainingOptions(lora_targets="foo", adapter="none"), tiny_dir, "tiny")


def test_a_set_of_layers_must_be_that_of_the_model_trained_further(tiny_dir: Path) -> None:
    check_options(TrainingOptions(lora_targets="v_proj,q_proj"), tiny_dir, "tiny", PARENT)
    with pytest.raises(
        InvalidRequest, match=r"choose other layers than the tuned model's adapter has \(such as k_proj\)"
    ):
        check_options(TrainingOptions(lora_targets="attention"), tiny_dir, "tiny", PARENT)


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
def test_four_bits_are_refused_without_the_weights(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="bitsandbytes") as caught:
        check_options(TrainingOptions(quantization="nf4"), None, "tiny")
    assert caught.value.code == "quantization_not_available"


ON_A_CPU = pytest.mark.skipif(any(path.exists() for path in CARDS), reason="an accelerator would hold the weights")


def _write_header(directory: Path, tensors: dict[str, list[int]]) -> None:
    entries = {name: {"dtype": "BF16", "shape": shape, "data_offsets": [0, 0]} for name, shape in tensors.items()}
    header = json.dumps(entries)
    (directory / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header.encode())


@ON_A_CPU
def test_training_all_weights_of_a_base_too_large_for_the_machine_is_refused_with_the_figures(tmp_path: Path) -> None:
    _write_header(tmp_path, {"model.layers.0.mlp.up_proj.weight": [1 << 20, 1 << 20]})  # 17.6 TB of state
    with pytest.raises(InvalidRequest) as caught:
        check_options(TrainingOptions(adapter="none"), tmp_path, "huge")
    assert caught.value.message.startswith("Training all 1,099,511,627,776 weights of huge takes 17592.2 GB")
    assert f"this machine has {total_memory() / 1e9:.1f} GB" in caught.value.message
    assert (caught.value.param, caught.value.code) == ("tunesmith.adapter", "out_of_memory")


def test_what_a_clusters_nodes_have_is_not_judged_by_this_machine(tmp_path: Path) -> None:
    _write_header(tmp_path, {"model.layers.0.mlp.up_proj.weight": [1 << 20, 1 << 20]})
    check_options(TrainingOptions(adapter="none"), tmp_path, "huge", here=False)


@ON_A_CPU
@pytest.mark.parametrize(("family", "figure"), [("llama", "2199.0"), ("cohere", "4398.0")])
def test_a_lora_is_refused_where_the_base_alone_does_not_fit_the_machine(
    tmp_path: Path, family: str, figure: str
) -> None:
    _write_header(tmp_path, {"model.layers.0.mlp.up_proj.weight": [1 << 20, 1 << 20]})
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
    with pytest.raises(InvalidRequest) as caught:
        check_options(TrainingOptions(lora_targets="mlp"), tmp_path, "huge")
    assert caught.value.message.startswith(
        f"Training beside the 1,099,511,627,776 weights of huge takes {figure} GB for them alone; this machine has"
    )
    assert (caught.value.param, caught.value.code) == ("model", "out_of_memory")


@ON_A_CPU
def test_a_base_that_fits_in_16_bits_is_trained_where_compiled_code_reads_them(tmp_path: Path) -> None:
    _write_header(tmp_path, {"model.layers.0.mlp.up_proj.weight": [total_memory() // 3 // 1024, 1024]})
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"model_type": "qwen3"}))
    check_options(TrainingOptions(lora_targets="mlp"), tmp_path, "large")
    with pytest.raises(InvalidRequest, match="for them alone"):  # the base's own modules compute it then
        check_options(TrainingOptions(lora_targets="mlp", lora_dropout=0.1), tmp_path, "large")
    config.write_text(json.dumps({"model_type": "cohere"}))
    with pytest.raises(InvalidRequest, match="for them alone"):
        check_options(TrainingOptions(lora_targets="mlp"), tmp_path, "large")


@ON_A_CPU
def test_a_vision_tower_takes_none_of_the_memory_of_training(tmp_path: Path) -> None:
    text, tower = "language_model.model.layers.0.mlp.up_proj.weight", "vision_tower.layers.0.mlp.fc1.weight"
    _write_header(tmp_path, {text: [8, 8], tower: [1 << 20, 1 << 20]})
    check_options(TrainingOptions(lora_targets="mlp"), tmp_path, "huge")
    check_options(TrainingOptions(adapter="none"), tmp_path, "huge")


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_blocks_are_for_layers_that_are_compiled(tiny_dir: Path, tmp_path: Path, kind: str) -> None:
    check_options(TrainingOptions.model_validate({"quantization": kind}), tiny_dir, "tiny")
    cures = "Set 'lora_dropout' to 0, or leave 'quantization' out"
    with pytest.raises(InvalidRequest, match=f"quantization is '{kind}'.*: lora_dropout is not 0. {cures}") as caught:
        check_options(TrainingOptions.model_validate({"quantization": kind, "lora_dropout": 0.1}), tiny_dir, "tiny")
    assert (caught.value.param, caught.value.code) == ("tunesmith.quantization", "quantization_not_available")
    (tmp_path / "config.json").write_text(json.dumps({**dict.fromkeys(SIZES, 64), "model_type": "cohere"}))
    with pytest.raises(InvalidRequest, match=f"quantization is '{kind}', which compiled layers"):
        check_options(TrainingOptions.model_validate({"quantization": kind}), tmp_path, "other")


BF16_CPU, OTHER_CPU = ("AMD EPYC 9654", frozenset({"avx512_bf16"})), ("AMD EPYC 7763", frozenset({"avx2"}))


@pytest.mark.parametrize(
    ("stored", "changes", "cpu", "reason", "cure"),
    [
        ("bfloat16", {}, OTHER_CPU, "this processor has neither AVX512-BF16 nor AMX", "Set"),
        ("float32", {}, BF16_CPU, "the base's weights are stored in float32", "Set"),
        ("bfloat16", {"lora_dropout": 0.1}, BF16_CPU, "lora_dropout is not 0", "to 0, or set"),
        (
            "bfloat16",
            {"quantization": "int8"},
            BF16_CPU,
            "the base's weights are in blocks",
            "Leave 'quantization' out, or set",
        ),
    ],
)
def test_rounded_products_are_for_what_can_make_them(
    tiny_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    stored: str,
    changes: dict[str, object],
    cpu: tuple[str, frozenset[str]],
    reason: str,
    cure: str,
) -> None:
    monkeypatch.setattr(options_check, "processor", lambda: cpu)
    monkeypatch.setattr(options_check, "stored_width", lambda _: stored)
    options = TrainingOptions.model_validate({"matmul_precision": "bfloat16", **changes})
    with pytest.raises(
        InvalidRequest,
        match=rf"matmul_precision is 'bfloat16'.*; but {reason}.* {cure} 'matmul_precision' to 'float32'",
    ) as caught:
        check_options(options, tiny_dir, "tiny")
    assert (caught.value.param, caught.value.code) == ("tunesmith.matmul_precision", "matmul_precision_not_available")
    if stored == "bfloat16":
        with pytest.raises(InvalidRequest, match="matmul_precision"):
            check_options(options, None, "tiny")  # even before the base is here
    if cpu is OTHER_CPU:
        check_options(options, tiny_dir, "tiny", here=False)  # a cluster's nodes have what they have


def test_rounded_products_are_taken_where_they_can_be_made(tiny_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options_check, "processor", lambda: BF16_CPU)
    monkeypatch.setattr(options_check, "stored_width", lambda _: "bfloat16")
    check_options(TrainingOptions(matmul_precision="bfloat16"), tiny_dir, "tiny")


def test_a_server_that_cannot_round_products_says_so_at_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(serve_matmul_precision="bfloat16")
    monkeypatch.setattr(options_check, "processor", lambda: BF16_CPU)
    check_serving(settings)
    monkeypatch.setattr(options_check, "processor", lambda: OTHER_CPU)
    with pytest.raises(
        InvalidRequest, match=r"Setting serve_matmul_precision: this processor .* Set it to 'float32'\."
    ):
        check_serving(settings)
    with pytest.raises(InvalidRequest, match=r"serve_weights is 'int8'\. Set serve_weights to 'auto', or serve_matmul"):
        check_serving(Settings(serve_matmul_precision="bfloat16", serve_weights="int8"))
    check_serving(Settings())


@ON_A_CPU
def test_a_base_in_blocks_takes_fewer_bytes(tmp_path: Path) -> None:
    count = round(total_memory() * 0.7)  # weights: they fit in 8 bits, and not in 16 or 32
    _write_header(tmp_path, {"model.layers.0.mlp.up_proj.weight": [count, 1]})
    (tmp_path / "config.json").write_text(json.dumps({**dict.fromkeys(SIZES, 64), "model_type": "llama"}))
    with pytest.raises(InvalidRequest, match="or the option 'quantization': 'int4'"):
        check_options(TrainingOptions(lora_targets="mlp"), tmp_path, "large")
    check_options(TrainingOptions(lora_targets="mlp", quantization="int8"), tmp_path, "large")
