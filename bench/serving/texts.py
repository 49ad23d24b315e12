"""The prompts of `bench/serve.py`, and the adapters that answer them."""

import json
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from tunesmith.models.adapters import AdapterManifest, write_adapter
from tunesmith.models.directory import fingerprint
from tunesmith.render.renderer import Renderer
from tunesmith.rows.row import ChatRow, read_rows
from tunesmith.train.protocol.events import Done, parse_events
from tunesmith.train.protocol.spec import TrainSpec

SHORTEST, LONGEST = 16, 160  # tokens of a stream's prompt; of different lengths, as chats are
PREFIX, ENDING = 512, 16
UNLIKE = 4  # prompts unrelated to the tuning data
HELD_OUT = 3  # every third row of the tuning data is for prompts, the others for training
RANK, ALPHA = 16, 32.0  # of the adapters, a job's defaults
SPREAD = 0.02  # of the random adapters' values


@dataclass(frozen=True, slots=True)
class Texts:
    streams: list[list[int]]  # prompts of different lengths
    like: list[list[int]]  # prompts of rows held out of the tuning data
    unlike: list[list[int]]  # prompts unrelated to it
    words: list[int]  # tokens of real text, to make long prompts from
    ends: frozenset[int]  # tokens that end a turn

    def long(self, number: int) -> tuple[list[int], list[int]]:
        """A prompt of `PREFIX` tokens like no other, and an ending to it."""
        draw = random.Random(number)
        start = draw.randrange(max(1, len(self.words) - PREFIX - ENDING))
        text = self.words[start : start + PREFIX + ENDING]
        text = (text * (1 + (PREFIX + ENDING) // len(text)))[: PREFIX + ENDING]
        own = [draw.choice(self.words) for _ in range(8)]  # at the start, so that no cache has it
        return own + text[: PREFIX - len(own)], text[PREFIX:]


def read_texts(data: Path, tuned_on: Path, renderer: Renderer, streams: int) -> Texts:
    """Prompts from all chat rows below `data`; the same files give the same ones.

    `tuned_on` is the tuning data.
    """
    rows = [row for file in sorted(data.glob("*.jsonl")) for _, row in read_rows(file) if isinstance(row, ChatRow)]
    random.Random(0).shuffle(rows)
    prompts = [prompt for row in rows if SHORTEST <= len(prompt := _prompt(row, renderer)) <= LONGEST]
    if len(prompts) < streams + UNLIKE:
        raise SystemExit(
            f"{data} has {len(prompts)} chat rows with {SHORTEST} to {LONGEST} tokens before their answer; {streams} "
            f"streams need {streams + UNLIKE}. Add rows, or leave out --data."
        )
    like = [row for number, (_, row) in enumerate(read_rows(tuned_on)) if number % HELD_OUT == 0]
    words = [
        token for row in rows[:200] for message in row.messages for token in renderer.encode(message.content or "")
    ]
    return Texts(
        prompts[:streams],
        [_prompt(row, renderer) for row in like if isinstance(row, ChatRow)],
        prompts[streams : streams + UNLIKE],
        words,
        renderer.eos_ids,
    )


def _prompt(row: ChatRow, renderer: Renderer) -> list[int]:
    """What stands before the row's last answer."""
    answers = [place for place, message in enumerate(row.messages) if message.role == "assistant"]
    return renderer.prompt(row.messages[: answers[-1]], row.tools)


def tune(base_dir: Path, tuned_on: Path, folder: Path, epochs: int) -> Path:
    """An adapter tuned with our own trainer on the rows that are not asked."""
    lines = tuned_on.read_text("utf-8").splitlines()
    folder.mkdir(parents=True)
    part = folder / "rows.jsonl"
    part.write_text("\n".join(line for number, line in enumerate(lines) if number % HELD_OUT) + "\n", "utf-8")
    spec = TrainSpec("bench", "bench", base_dir, part, folder / "job", n_epochs=epochs)  # 5e-4
    spec.write(folder / "spec.json")
    command = [sys.executable, "-m", "tunesmith.train", str(folder / "spec.json")]
    events = parse_events(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    return Path(next(event.path for event in events if isinstance(event, Done)))


def random_adapter(base_dir: Path, directory: Path, renderer: Renderer, seed: int) -> Path:
    """On all linear layers; small enough that the base's text changes and stays text."""
    config = json.loads((base_dir / "config.json").read_text("utf-8"))
    draw = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer in range(config["num_hidden_layers"]):
        for module, (outputs, inputs) in linear_sizes(config).items():
            name = f"base_model.model.model.layers.{layer}.{module}"
            tensors[f"{name}.lora_A.weight"] = torch.randn(RANK, inputs, generator=draw) * SPREAD
            tensors[f"{name}.lora_B.weight"] = torch.randn(outputs, RANK, generator=draw) * SPREAD
    targets = tuple(module.rpartition(".")[2] for module in linear_sizes(config))
    manifest = AdapterManifest("bench", fingerprint(base_dir), renderer.name, RANK, ALPHA, targets, step=1)
    write_adapter(directory, tensors, manifest)
    return directory


def linear_sizes(config: dict[str, int]) -> dict[str, tuple[int, int]]:
    """(out, in) of the linears of a layer of the Llama family."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    head = config.get("head_dim") or hidden // config["num_attention_heads"]
    queries, keys = head * config["num_attention_heads"], head * config["num_key_value_heads"]
    return {
        "self_attn.q_proj": (queries, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, queries),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
