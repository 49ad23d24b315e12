"""`tunesmith estimate` says what of a mixture of experts a LoRA reaches."""

import json
import shutil
from pathlib import Path

from tests.cli.conftest import Tunesmith
from tests.families.zoo import ZOO, write


def test_an_estimate_has_the_share_of_the_weights_that_are_tuned(
    tunesmith: Tunesmith, base_dir: Path, tmp_path: Path
) -> None:
    folder = write(ZOO["mixtral"], tmp_path / "mixtral")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(base_dir / name, folder / name)
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    rows = tmp_path / "rows.jsonl"
    rows.write_text((json.dumps({"messages": messages}) + "\n") * 10, "utf-8")
    assert tunesmith("models", "add", "moe", folder).code == 0
    ran = tunesmith("estimate", rows, "--base", "moe")
    assert ran.code == 0
    assert "LoRA reaches 14 % of the weights in this base's layers" in " ".join((ran.out + ran.err).split())
    found = tunesmith("estimate", rows, "--base", "moe", "--json").json
    assert isinstance(found, dict)
    assert found["lora_share"] == 0.1424
    dense = tunesmith("estimate", rows, "--json").json
    assert isinstance(dense, dict)
    assert dense["lora_share"] == 1.0
    assert "experts" not in tunesmith("estimate", rows).out
    whole = tunesmith("estimate", rows, "--base", "moe", "--adapter", "none", "--json").json
    assert isinstance(whole, dict)
    assert whole["lora_share"] is None
