"""`tunesmith models check`: what is said of a base, and the conversation as training sees it."""

import shutil
from pathlib import Path

import pytest
from tests.cli.conftest import Tunesmith


def test_the_base_that_comes_with_tunesmith(tunesmith: Tunesmith) -> None:
    found = tunesmith("models", "check", "smollm2-135m-instruct", "--json").json
    assert isinstance(found, dict)
    assert found["family"] == "Llama"
    assert found["trained by"] == (
        "compiled code on a CPU, once a run is long enough to pay; a LoRA reaches 100 % of the layers"
    )
    assert found["served by"] == "compiled code, many at once"
    assert found["special tokens"].endswith("an answer ends with <|im_end|>")
    assert found["size"] == "135 million parameters"
    assert found["memory"].startswith("fits this machine: training (a LoRA on the CPU, rows of 1,024 tokens) needs ")
    assert found["answers"].startswith("What is the capital of France? → ")
    learned = [span["text"] for span in found["mask"][0] if span["learned"]]
    assert learned == ["Paris.<|im_end|>", "Rome.<|im_end|>"]


def test_a_base_without_a_template_says_that_chats_are_refused(
    tunesmith: Tunesmith, base_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = tmp_path / "plain"
    shutil.copytree(base_dir, plain)
    config = (plain / "tokenizer_config.json").read_text("utf-8")
    (plain / "tokenizer_config.json").write_text(config.replace('"chat_template"', '"other"'), "utf-8")
    monkeypatch.setenv("TUNESMITH_BASES", f'{{"plain": "{plain}"}}')
    ran = tunesmith("models", "check", "plain", "--no-answer")
    assert ran.code == 0
    assert "chats are refused: " in ran.out
    assert "answers" not in ran.out
