"""What a load takes at its peak: the panels, and neither the file nor the embedding beside them."""

import json
import subprocess
import sys
from pathlib import Path
from threading import Event

import pytest
import torch
from safetensors.torch import save_file

from tunesmith.serve.giving_way import GaveWay, may_give_way
from tunesmith.serve.local.base_weights import map_weights
from tunesmith.serve.local.llama_runner import CompiledRunner

MB = 1 << 20
VOCABULARY, HIDDEN, INNER, LAYERS = 100_000, 256, 4096, 8  # 49 MB of embedding, 50 MB of layers
SIZES = {
    "model_type": "llama", "vocab_size": VOCABULARY, "hidden_size": HIDDEN, "intermediate_size": INNER,
    "num_hidden_layers": LAYERS, "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 64,
    "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "hidden_act": "silu", "rope_theta": 10000.0,
    "tie_word_embeddings": True, "dtype": "bfloat16",
}  # fmt: skip
CHILD = """
import json, sys
from pathlib import Path
import numpy
from tunesmith.families.array_panels import pack
from tunesmith.serve.local.base_weights import map_weights
from tunesmith.serve.local.llama_runner import CompiledRunner
from tunesmith.system.pages import fresh_slab
def kilobytes(name):
    return int(Path("/proc/self/status").read_text().split(name + ":")[1].split()[0])
pack([numpy.zeros((16, 16), numpy.uint16)], "bfloat16", fresh_slab(1024))  # the code of it is in memory
weights = map_weights(Path(sys.argv[1]))
Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
before, files = kilobytes("VmRSS"), kilobytes("RssFile")
runner = CompiledRunner(weights, "bfloat16")
print(json.dumps([kilobytes("VmHWM") - before, kilobytes("RssFile") - files]))
"""


@pytest.fixture
def bfloat16_base(tmp_path: Path) -> Path:
    """A base whose output layer is its embedding."""
    tensors = {"model.embed_tokens.weight": torch.ones(VOCABULARY, HIDDEN), "model.norm.weight": torch.ones(HIDDEN)}
    for layer in range(LAYERS):
        of_layer = {f"self_attn.{name}_proj.weight": torch.ones(HIDDEN, HIDDEN) for name in "qkvo"}
        of_layer |= {f"mlp.{name}_proj.weight": torch.ones(INNER, HIDDEN) for name in ("gate", "up")}
        of_layer |= {"mlp.down_proj.weight": torch.ones(HIDDEN, INNER)}
        of_layer |= {f"{name}_layernorm.weight": torch.ones(HIDDEN) for name in ("input", "post_attention")}
        tensors |= {f"model.layers.{layer}.{name}": tensor for name, tensor in of_layer.items()}
    save_file({name: tensor.bfloat16() for name, tensor in tensors.items()}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(SIZES))
    return tmp_path


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_base_in_bfloat16_is_loaded_in_the_memory_of_its_panels(bfloat16_base: Path) -> None:
    command = [sys.executable, "-c", CHILD, str(bfloat16_base)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak, of_file = (1024 * size for size in json.loads(done.stdout))
    panels = (bfloat16_base / "model.safetensors").stat().st_size
    assert panels < peak < panels + 28 * MB  # pieces of 8 MB that two threads read, and the tables
    assert of_file < 4 * MB


def test_a_load_that_nobody_waits_for_ends_between_two_pieces(bfloat16_base: Path) -> None:
    weights, wanted = map_weights(bfloat16_base), Event()
    assert weights is not None
    wanted.set()
    with may_give_way(wanted), pytest.raises(GaveWay):
        CompiledRunner(weights, "bfloat16")
    assert CompiledRunner(weights, "bfloat16").context_length == 512
