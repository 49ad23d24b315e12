"""A base that also takes images, from a file of rows to answers: PEFT on the whole base gives the same."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from tests.families.zoo import ZOO, build
from tests.train.test_run import of_type, train

from tunesmith.models.directory import context_length
from tunesmith.rows.messages import Message
from tunesmith.serve.engine.protocol import GenerateRequest
from tunesmith.serve.pool import Pool
from tunesmith.settings import Settings
from tunesmith.train.protocol.spec import TrainSpec

NEW = 8


@pytest.mark.filterwarnings("ignore::FutureWarning")  # peft calls a name that transformers will drop
def test_a_base_with_images_is_trained_and_answers(
    make_spec: Callable[..., TrainSpec], tiny_base: Path, tmp_path: Path
) -> None:
    vocabulary = json.loads((tiny_base / "config.json").read_text("utf-8"))["vocab_size"]
    tiny = replace(ZOO["qwen3_vl"], changes={**ZOO["qwen3_vl"].changes, "vocab_size": vocabulary})
    base = tmp_path / "base"
    build(tiny).save_pretrained(base)
    for path in tiny_base.glob("*token*.json"):
        shutil.copy(path, base / path.name)
    assert context_length(base) == 512
    steps = of_type(train(make_spec(base_dir=base, n_epochs=2, base_learning_rate=0.02)), "step")
    assert steps[-1]["train_loss"] < steps[0]["train_loss"]  # type: ignore[operator]
    pool = Pool(Settings(data_dir=tmp_path, serve_weights="float32"))
    model = pool.open(base, tmp_path / "out" / "adapter")
    prompt = model.renderer.prompt([Message("user", "What is 3 plus 3?")])
    asked = GenerateRequest(tuple(prompt), NEW, frozenset(), temperature=0, adapter=model.adapter)
    answer = [delta.token for delta in model.engine.submit(asked)]
    bare = [delta.token for delta in model.engine.submit(replace(asked, adapter=None))]
    pool.close()
    tuned = PeftModel.from_pretrained(build(tiny), tmp_path / "out" / "adapter").eval()
    mask = torch.ones(1, len(prompt), dtype=torch.long)
    options = {"max_new_tokens": NEW, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    expected = tuned.generate(input_ids=torch.tensor([prompt]), attention_mask=mask, **options)[
        0, len(prompt) :
    ].tolist()
    assert answer == expected
    assert answer != bare
