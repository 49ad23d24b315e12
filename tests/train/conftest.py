"""A base small enough to train in milliseconds, with the real chat template."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.render.bases import VOCABULARY as TOKENS
from tests.render.bases import make_base
from transformers import LlamaConfig, LlamaForCausalLM, StableLmConfig, StableLmForCausalLM

from tunesmith.settings import TrainingOptions
from tunesmith.train.core.packing import TokenRow
from tunesmith.train.protocol.spec import TrainSpec

VOCABULARY = 61


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """As many as `make test` has processors for each of its processes; tests of several set their own."""
    torch.set_num_threads(1)


def tiny_llama(vocabulary: int = VOCABULARY, seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.2,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="session")
def tiny_base(base_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face directory with random weights, and SmolLM2's tokenizer with the first of its tokens."""
    return write_tiny_base(base_dir, tmp_path_factory.mktemp("tiny-base"))


def write_tiny_base(base_dir: Path, directory: Path) -> Path:
    config = json.loads((base_dir / "tokenizer_config.json").read_text("utf-8"))
    make_base(base_dir, directory, config["chat_template"], config=config)
    shutil.copy(base_dir / "generation_config.json", directory / "generation_config.json")
    model = tiny_llama(TOKENS)
    model.config.save_pretrained(directory)
    model.save_pretrained(directory, safe_serialization=True)
    return directory


def of_tiny_base(base: Path) -> dict[str, str]:
    """The environment of commands and servers whose only base this is, for tests of what surrounds a training."""
    names = {"TUNESMITH_BASES": json.dumps({"tiny": str(base)}), "TUNESMITH_BASE_MODEL": "tiny"}
    return {**names, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def stablelm_base(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with StableLM's architecture, whose attention is not told of the token tree."""
    directory = tmp_path_factory.mktemp("stablelm-base")
    for path in tiny_base.iterdir():
        if path.name.startswith(("tokenizer", "generation")):
            shutil.copy(path, directory / path.name)
    torch.manual_seed(0)
    config = StableLmConfig(
        vocab_size=json.loads((tiny_base / "config.json").read_text())["vocab_size"],
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        initializer_range=0.2,
    )
    StableLmForCausalLM(config).save_pretrained(directory, safe_serialization=True)
    return directory


def chat_line(system: str, question: str, answer: str) -> str:
    roles = (("system", system), ("user", question), ("assistant", answer))
    return json.dumps({"messages": [{"role": role, "content": text} for role, text in roles]}, ensure_ascii=False)


@pytest.fixture(scope="session")
def chat_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten chat rows that share a system prompt."""
    path = tmp_path_factory.mktemp("data") / "chat.jsonl"
    lines = [chat_line("You answer in one word.", f"What is {n} plus {n}?", f"It is {2 * n}.") for n in range(10)]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


@pytest.fixture(scope="session")
def preference_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pairs of answers."""
    path = tmp_path_factory.mktemp("data") / "preferences.jsonl"
    lines = [
        {
            "input": {"messages": [{"role": "user", "content": f"What is {n} plus {n}?"}]},
            "preferred_output": [{"role": "assistant", "content": f"It is {2 * n}."}],
            "non_preferred_output": [{"role": "assistant", "content": "Who knows? Nobody has ever found out."}],
        }
        for n in range(4)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return path


@pytest.fixture
def make_spec(tiny_base: Path, chat_file: Path, tmp_path: Path) -> Callable[..., TrainSpec]:
    """Makes specs; training options are given like fields of the spec."""

    def make(**changes: object) -> TrainSpec:
        values: dict[str, object] = {
            "job_id": "ftjob-test",
            "base_name": "tiny",
            "base_dir": tiny_base,
            "training_file": chat_file,
            "output_dir": tmp_path / "out",
            "n_epochs": 2,
            "batch_size": 3,
            "seed": 7,
            "threads": 1,
        }
        options = {name: changes.pop(name) for name in [*changes] if name in TrainingOptions.model_fields}
        values["options"] = TrainingOptions.model_validate({"base_learning_rate": 5e-4, **options})
        return TrainSpec(**{**values, **changes})  # type: ignore[arg-type]

    return make


def row(*ids: int, learned: int = 1) -> TokenRow:
    """The last `learned` tokens are learned."""
    return TokenRow(ids, (0.0,) * (len(ids) - learned) + (1.0,) * learned)
