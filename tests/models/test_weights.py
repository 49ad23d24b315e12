"""A base in memory is frozen and mapped; what 4 bits need is said."""

import importlib.util
from pathlib import Path

import pytest
import torch

from tunesmith.errors import InvalidRequest
from tunesmith.models.weights import load_model, require_nf4

BITSANDBYTES = importlib.util.find_spec("bitsandbytes") is not None


def test_a_loaded_base_is_frozen_and_in_eval_mode(tiny_dir: Path) -> None:
    model = load_model(tiny_dir, torch.float32)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_a_base_is_converted_to_the_wanted_number_format(tiny_dir: Path) -> None:
    half, full = load_model(tiny_dir, torch.bfloat16), load_model(tiny_dir, torch.float32)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
    assert torch.equal(half.get_parameter("lm_head.weight"), full.get_parameter("lm_head.weight").bfloat16())


def test_code_that_comes_with_a_base_is_never_run(tiny_dir: Path, tmp_path: Path) -> None:
    config = (tiny_dir / "config.json").read_text()
    loads = '"auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}, "model_type": "evil",'
    (tiny_dir / "config.json").write_text(config.replace('"model_type": "llama",', loads))
    (tiny_dir / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    with pytest.raises(ValueError, match="contains custom code"):
        load_model(tiny_dir, torch.float32)
    assert not (tmp_path / "ran").exists()


def test_pickled_weights_are_never_read(tiny_dir: Path) -> None:
    (tiny_dir / "model.safetensors").rename(tiny_dir / "pytorch_model.bin")
    with pytest.raises(OSError, match=r"safetensors"):
        load_model(tiny_dir, torch.float32)


def test_without_a_gpu_4_bits_are_refused_with_what_is_missing() -> None:
    with pytest.raises(InvalidRequest, match="no CUDA GPU that PyTorch can use") as caught:
        require_nf4(cuda=False)
    assert (caught.value.param, caught.value.code) == ("tunesmith.quantization", "quantization_not_available")
    assert ("no package bitsandbytes" in str(caught.value)) == (not BITSANDBYTES)


@pytest.mark.skipif(BITSANDBYTES, reason="bitsandbytes is installed")
def test_without_bitsandbytes_4_bits_are_refused_wherever_the_gpu_is(tiny_dir: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"no package bitsandbytes \(pip install bitsandbytes accelerate\)"):
        require_nf4()
    with pytest.raises(InvalidRequest, match="bitsandbytes"):
        load_model(tiny_dir, torch.float32, quantization="nf4")


@pytest.mark.skipif(BITSANDBYTES, reason="bitsandbytes is installed")
def test_a_torch_built_without_cuda_is_noticed_without_importing_it() -> None:
    with pytest.raises(InvalidRequest) as caught:
        require_nf4()
    built_without = torch.version.cuda is None and torch.version.hip is None
    assert ("this machine has no CUDA GPU that PyTorch can use and" in caught.value.message) == built_without
