"""A model whose matrices are in 16 bits, computing in float32 on a CPU.

Compiled layers widen a matrix as they read it. The base's own modules, which are their reference, get one widened for
the time of its product, so that there is never a float32 copy of the whole base.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from tunesmith.system.pages import evict_pages
from tunesmith.train.layers.wide_products import is_narrow

if TYPE_CHECKING:
    from transformers import PreTrainedModel


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
def widened(model: "PreTrainedModel") -> Iterator[None]:
    """Within it the model's own modules compute in float32.

    To the bit as a float32 copy of the model does. Its output layer is left to `paths.verify.float32_head`.
    """
    head = model.get_output_embeddings()
    linears = [module for module in model.modules() if isinstance(module, nn.Linear) and module is not head]
    narrow = [linear for linear in linears if is_narrow(linear.weight)]
    hooks = [linear.register_forward_pre_hook(_widen) for linear in narrow]
    hooks += [linear.register_forward_hook(_restore, always_call=True) for linear in narrow]
    hooks += widen_embedding(model)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def widen_embedding(model: "PreTrainedModel") -> list[RemovableHandle]:
    """The hooks that have the embedding give float32 numbers: none where it does so itself."""
    embedding = model.get_input_embeddings()
    narrow = is_narrow(cast(Tensor, embedding.weight))
    return [embedding.register_forward_hook(_widen_output)] if narrow else []


def _widen(module: nn.Module, _: object) -> None:
    linear = cast(nn.Linear, module)
    linear._narrow = linear.weight.data
    linear.weight.data = linear.weight.data.float()


def _restore(module: nn.Module, _: object, output: Tensor) -> Tensor:
    linear = cast(nn.Linear, module)
    linear.weight.data = cast(Tensor, linear._narrow)
    del linear._narrow
    evict_pages(linear.weight.data)  # so that the whole file is not in memory before it is packed
    return output


def _widen_output(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
    if not hasattr(module, "embed_scale"):
        return output.float()
    narrow = nn.functional.embedding(inputs[0], cast(Tensor, module.weight))  # the module has rounded the product
    return narrow.float() * cast(Tensor, module.embed_scale)
