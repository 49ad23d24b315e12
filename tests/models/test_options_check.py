import importlib.util
from pathlib import Path

import pytest

from tunesmith.errors import InvalidRequest
from tunesmith.models.adapters import AdapterManifest
from tunesmith.models.options_check import check_options
from tunesmith.settings import TrainingOptions

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
