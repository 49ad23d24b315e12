"""A model whose own modules compute with weights that compiled layers have in blocks of 8 or 4 bits.

They are the reference of the compiled layers: each linear gets what its rounded weight stands for, for the time of its
product.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from tunesmith.families.array_panels import QUANTISED, Width
from tunesmith.families.panels import dequantised, frozen_width, stored_width
from tunesmith.settings import Quantization
from tunesmith.system.pages import evict_pages
from tunesmith.train.layers.wide_modules import widened
from tunesmith.train.paths.choose_stack import in_blocks

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@contextmanager
def rounded(model: "PreTrainedModel", quantization: Quantization) -> Iterator[None]:
    """Within it the model computes in float32, as compiled layers over blocks do.

    Without blocks as `widened` has it.
    """
    if not in_blocks(quantization):
        with widened(model):
            yield
        return
    head = model.get_output_embeddings()
    hooks = [model.get_input_embeddings().register_forward_hook(lambda _, __, output: output.float())]
    for module in model.modules():
        if isinstance(module, nn.Linear):
            stored = stored_width(module.weight.dtype)
            width = frozen_width(module.in_features, quantization, stored, head=module is head)
            hooks += _hooks(module, width)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _hooks(linear: nn.Linear, width: Width) -> list[RemovableHandle]:
    weight = linear.weight.data

    def replace(_: nn.Module, __: object) -> None:
        linear.weight.data = dequantised(weight, width) if width in QUANTISED else weight.float()

    def restore(_: nn.Module, __: object, output: Tensor) -> Tensor:
        linear.weight.data = weight
        evict_pages(weight)  # so that the whole file is not in memory before it is packed
        return output

    return [linear.register_forward_pre_hook(replace), linear.register_forward_hook(restore, always_call=True)]
