"""Do the exported files answer as the served model does?

The files are read again, as another program reads them, and answer the same questions greedily. A GGUF file is read
with the `gguf` package, and its weights answer in transformers: that llama.cpp answers so too is measured by
`bench/exports/exported.py`.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

import torch
from torch import Tensor

from tunesmith.export.formats import Exported
from tunesmith.export.gguf_file import read_gguf
from tunesmith.families.peft_names import A_SUFFIX, PREFIX, lora_b_name, own_path
from tunesmith.models.adapters import CONFIG_FILE, TENSORS_FILE
from tunesmith.models.weights import load_model
from tunesmith.render.renderer import Renderer, load_renderer
from tunesmith.rows.messages import Message
from tunesmith.serve.local.lora_hooks import LoraHooks, TorchAdapter, TorchLowRank

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MOST_TOKENS = 48  # of an answer that is compared
Conversation: TypeAlias = tuple[tuple[str, str], ...]  # roles and texts


@dataclass(frozen=True, slots=True)
class Compared:
    """One question, answered by both sides."""

    question: str
    served: str
    exported: str
    same_tokens: int  # from the beginning
    margin: float | None  # logits between the two tokens at the first difference, by the exported files; None: equal

    @property
    def equal(self) -> bool:
        """Whether both answers are the same."""
        return self.margin is None


Ask: TypeAlias = Callable[[Conversation], tuple[bytes, ...]]  # the served model's answer, token by token


def compare(exported: Exported, questions: Sequence[Conversation], ask: Ask) -> list[Compared]:
    """Has the exported files and the served model answer the questions greedily."""
    renderer, model = load_renderer(exported.model.base_dir), load_exported(exported)
    return [_compared(model, renderer, question, ask(question)) for question in questions]


@torch.no_grad()
def load_exported(exported: Exported) -> "PreTrainedModel":
    """The exported files as a model of transformers in float32."""
    kind, folder, base_dir = exported.kind, exported.folder, exported.model.base_dir
    if kind == "safetensors":
        return load_model(folder, torch.float32)
    model = load_model(base_dir, torch.float32)
    if kind == "peft":
        hooks = LoraHooks(model)
        hooks.active = _read_peft(folder)
        return model
    weights = dict(model.named_parameters())
    for name, values in read_gguf(exported.plan, exported.gguf).items() if exported.plan else ():
        weights[own_path(name)].data = values
    return model


def _read_peft(folder: Path) -> TorchAdapter:
    from safetensors.torch import load_file

    config = json.loads((folder / CONFIG_FILE).read_text("utf-8"))
    tensors, scale = load_file(folder / TENSORS_FILE), config["lora_alpha"] / config["r"]
    layers = {}
    for name, a in tensors.items():
        path, is_a, _ = name.removeprefix(PREFIX).partition(A_SUFFIX)
        if is_a:
            layers[own_path(path)] = TorchLowRank(a.float(), tensors[lora_b_name(path)].float(), scale)
    return TorchAdapter(layers, 0)


def _compared(
    model: "PreTrainedModel", renderer: Renderer, question: Conversation, served: tuple[bytes, ...]
) -> Compared:
    prompt = renderer.prompt([Message(role, text) for role, text in question])
    ids, logits = greedy(model, prompt, renderer.eos_ids, MOST_TOKENS)
    mine = [renderer.token_bytes(one) for one in ids if one not in renderer.eos_ids]
    same = next(
        (at for at, (x, y) in enumerate(zip(mine, served, strict=False)) if x != y), min(len(mine), len(served))
    )
    margin = None if same == len(mine) == len(served) else _margin(renderer, ids, logits, same, served)
    return Compared(question[-1][1], _text(served), _text(mine), same, margin)


def _margin(
    renderer: Renderer, ids: Sequence[int], logits: Sequence[Tensor], at: int, served: Sequence[bytes]
) -> float:
    """By how many logits the exported model prefers its own token to the served one's."""
    if at >= len(logits):  # it was cut there, and the served answer was not
        return 0.0
    table = enumerate(map(renderer.token_bytes, range(renderer.vocab_size)))
    theirs = renderer.eos_ids if at >= len(served) else {one for one, spelled in table if spelled == served[at]}
    return float(logits[at][ids[at]] - max(logits[at][one] for one in theirs)) if theirs else 0.0


@torch.no_grad()
def greedy(
    model: "PreTrainedModel", prompt: Sequence[int], ends: frozenset[int], most: int
) -> tuple[list[int], list[Tensor]]:
    """The likeliest tokens, up to one of `ends`, and the logits [vocabulary] of each."""
    past: object = None
    given = torch.tensor([list(prompt)])
    ids: list[int] = []
    logits: list[Tensor] = []
    while len(ids) < most and not (ids and ids[-1] in ends):
        made = cast(_Step, cast(object, model(input_ids=given, past_key_values=past, use_cache=True)))
        past = made.past_key_values
        logits.append(made.logits[0, -1].float())
        ids.append(int(logits[-1].argmax()))
        given = torch.tensor([[ids[-1]]])
    return ids, logits


class _Step:
    """What transformers' models return."""

    logits: Tensor
    past_key_values: object


def _text(tokens: Sequence[bytes]) -> str:
    return b"".join(tokens).decode("utf-8", errors="replace")
