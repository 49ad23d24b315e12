"""A model's own modules, computing with weights rounded to 8 or 4 bits.

They are the reference of compiled layers, which have such weights in blocks: each linear gets what its rounded weight
stands for, for the time of its product.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from tunesmith.families.array_panels import QUANTISED, Width
from tunesmith.families.panels import dequantised, frozen_width, stored_width
from tunesmith.settings import Quantization
from tunesmith.system.pages import evict_pages
from tunesmith.train.adapters.lora import LoraLinear
from tunesmith.train.layers.frozen_weights import Reading
from tunesmith.train.layers.wide_modules import widen_embedding, widened
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
    head, adapted = model.get_output_embeddings(), set[nn.Module]()
    hooks = widen_embedding(model)

    def reading(linear: nn.Linear) -> Reading:
        width = frozen_width(linear.in_features, quantization, stored_width(linear.weight.dtype), head=linear is head)
        return partial(_read, width=width)

    matrices = [module.matrix for module in model.modules() if isinstance(module, LoraLinear)]
    for module in model.modules():
        if isinstance(module, LoraLinear):  # which reads the weight itself
            module.matrix.reading = reading(module.base)
            adapted.add(module.base)
        elif isinstance(module, nn.Linear) and module not in adapted:
            hooks += _hooks(module, reading(module))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for matrix in matrices:
            matrix.reading = None


def _read(weight: Tensor, width: Width) -> Tensor:
    return dequantised(weight, width) if width in QUANTISED else weight.float()


def _hooks(linear: nn.Linear, reading: Reading) -> list[RemovableHandle]:
    weight = linear.weight.data

    def replace(_: nn.Module, __: object) -> None:
        linear.weight.data = reading(weight)

    def restore(_: nn.Module, __: object, output: Tensor) -> Tensor:
        linear.weight.data = weight
        evict_pages(weight)  # so that the whole file is not in memory before it is packed
        return output

    return [linear.register_forward_pre_hook(replace), linear.register_forward_hook(restore, always_call=True)]
