"""What an export may be, without torch, which the rest of this room brings."""

import re
from typing import Literal

Kind = Literal["peft", "safetensors", "gguf", "ollama"]
Width = Literal["auto", "f32", "f16", "bf16", "q8_0"]
WIDTHS: tuple[Width, ...] = ("auto", "f32", "f16", "bf16", "q8_0")
WITH_WIDTH: tuple[Kind, ...] = ("gguf", "ollama")


def kinds_of(*, adapter: bool) -> tuple[Kind, ...]:
    """What a model can be written as; `adapter`: whether it is one beside a base."""
    return ("peft", "safetensors", "gguf", "ollama") if adapter else ("safetensors", "gguf", "ollama")


def folder_name(model: str, kind: Kind) -> str:
    """The name of the folder of an export that nobody named."""
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', model.removeprefix('ft:'))}-{kind}"
