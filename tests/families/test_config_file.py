"""What a base's config.json says of its text model, with the keys that published configs have and leave out."""

import json
from pathlib import Path

import pytest
import torch
from tests.families.trial import TEXT
from transformers import AutoConfig, AutoModelForImageTextToText

from tunesmith.families.config_file import SIZES, read_text_config
from tunesmith.families.support import unsupported
from tunesmith.families.text_part import text_part
from tunesmith.jsonvalue import JsonObject
from tunesmith.models.directory import context_length

# As Gemma 3 4B has it: what is as its family has it is left out.
GEMMA_3_4B: JsonObject = {
    "architectures": ["Gemma3ForConditionalGeneration"],
    "model_type": "gemma3",
    "text_config": {
        "hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024,
    },
    "vision_config": {"hidden_size": 1152, "model_type": "siglip_vision_model", "num_hidden_layers": 27},
}  # fmt: skip
# As Qwen2.5-VL has it: the text model's values stand beside those of the vision tower.
QWEN_2_5_VL: JsonObject = {
    "architectures": ["Qwen2_5_VLForConditionalGeneration"],
    "model_type": "qwen2_5_vl",
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128000, "vocab_size": 96, "tie_word_embeddings": True,
    "rope_theta": 1000000.0, "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
    "vision_start_token_id": 90, "vision_end_token_id": 91, "image_token_id": 92, "video_token_id": 93,
    "vision_config": {
        "hidden_size": 32, "intermediate_size": 48, "depth": 2, "num_heads": 2, "patch_size": 14, "out_hidden_size": 64,
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "context", "heads"), [(GEMMA_3_4B, 131072, 8), (QWEN_2_5_VL, 128000, 4)], ids=["gemma3", "qwen2_5_vl"]
)
def test_sizes_that_a_config_leaves_out_are_the_familys(
    config: JsonObject, context: int, heads: int, tmp_path: Path
) -> None:
    assert unsupported(config) is None
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    values = read_text_config(tmp_path)
    assert all(isinstance(values[name], int) for name in SIZES)
    assert values["num_attention_heads"] == heads
    assert context_length(tmp_path) == context


def test_text_is_rotated_as_by_a_plain_rotary_embedding(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(QWEN_2_5_VL), "utf-8")
    torch.manual_seed(0)
    whole = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(tmp_path)).eval()
    for parameter in whole.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    with torch.no_grad():
        expected = whole(input_ids=torch.tensor([TEXT])).logits
        logits = text_part(whole)(input_ids=torch.tensor([TEXT])).logits
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-6)


def test_a_plain_config_is_read_without_transformers(tmp_path: Path) -> None:
    plain: JsonObject = {**dict.fromkeys(SIZES, 64), "model_type": "llama", "own": True}
    (tmp_path / "config.json").write_text(json.dumps(plain), "utf-8")
    assert read_text_config(tmp_path) == plain
