"""A model whose matrices are in 16 bits, computing in float32 on a CPU.

Compiled layers widen a matrix as they read it. The base's own modules, which are their reference, get one widened for
the time of its product, so that there is never a float32 copy of the whole base.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from tunesmith.system.pages import evict_pages
from tunesmith.train.layers.frozen_weights import FrozenMatrix, Reading
from tunesmith.train.layers.wide_products import is_narrow

if TYPE_CHECKING:
    from transformers import PreTrainedModel


ReadingOf: TypeAlias = Callable[[nn.Linear], Reading | None]  # what multiplies in place of a weight; None: itself


def widen_vectors(model: "PreTrainedModel") -> None:
    """Makes norms and biases float32, which is exact; they are small.

    What an embedding is multiplied by has been rounded where the model was loaded in 16 bits, and becomes exact again.
    """
    for parameter in model.parameters():
        if parameter.ndim < 2 and is_narrow(parameter):
            parameter.data = parameter.data.float()
    embedding = model.get_input_embeddings()
    if hasattr(embedding, "scalar_embed_scale"):
        embedding.embed_scale = torch.tensor(embedding.scalar_embed_scale, dtype=torch.float32)


def widen_all(model: "PreTrainedModel") -> None:
    """Makes every weight float32, for layers that are not compiled."""
    for parameter in model.parameters():  # a tied one comes once
        if is_narrow(parameter):
            parameter.data = parameter.data.float()


@contextmanager
def widened(model: "PreTrainedModel", reading_of: ReadingOf | None = None) -> Iterator[None]:
    """Within it the model's own modules compute in float32.

    With what `reading_of` makes of each linear's weight; by default to the bit as a float32 copy of the model does, and
    the output layer is left to `paths.verify.float32_head`.
    """
    head = model.get_output_embeddings()
    matrices = [getattr(module, "matrix", None) for module in model.modules()]
    adapted = {matrix.layer: matrix for matrix in matrices if isinstance(matrix, FrozenMatrix)}
    hooks = _widen_embedding(model)
    for linear in [module for module in model.modules() if isinstance(module, nn.Linear)]:
        reading = reading_of(linear) if reading_of else _as_float32(linear, head)
        if reading is not None and linear in adapted:  # whose matrix reads the weight itself
            adapted[linear].reading = reading
        elif reading is not None:
            hooks += _reading_hooks(linear, reading)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for matrix in adapted.values():
            matrix.reading = None


def _as_float32(linear: nn.Linear, head: nn.Module) -> Reading | None:
    return Tensor.float if is_narrow(linear.weight) and linear is not head else None


def _reading_hooks(linear: nn.Linear, reading: Reading) -> list[RemovableHandle]:
    weight = linear.weight.data

    def replace(_: nn.Module, __: object) -> None:
        linear.weight.data = reading(weight)

    def restore(_: nn.Module, __: object, output: Tensor) -> Tensor:
        linear.weight.data = weight
        if weight.device.type == "cpu":
            evict_pages(weight)  # so that the whole file is not in memory before it is packed
        return output

    return [linear.register_forward_pre_hook(replace), linear.register_forward_hook(restore, always_call=True)]


def _widen_embedding(model: "PreTrainedModel") -> list[RemovableHandle]:
    embedding = model.get_input_embeddings()
    narrow = is_narrow(cast(Tensor, embedding.weight))
    return [embedding.register_forward_hook(_widen_output)] if narrow else []


def _widen_output(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
    if not hasattr(module, "embed_scale"):
        return output.float()
    narrow = nn.functional.embedding(inputs[0], cast(Tensor, module.weight))  # the module has rounded the product
    return narrow.float() * cast(Tensor, module.embed_scale)
