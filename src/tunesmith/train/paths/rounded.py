"""A model's own modules, computing with weights rounded to 8 or 4 bits.

They are the reference of compiled layers, which have such weights in blocks: each linear gets what its rounded weight
stands for, for the time of its product.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor, nn

from tunesmith.families.array_panels import QUANTISED
from tunesmith.families.panels import dequantised, frozen_width, stored_width
from tunesmith.settings import Quantization
from tunesmith.train.layers.frozen_weights import Reading
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

    def reading_of(linear: nn.Linear) -> Reading:
        width = frozen_width(linear.in_features, quantization, stored_width(linear.weight.dtype), head=linear is head)
        return partial(dequantised, width=width) if width in QUANTISED else Tensor.float

    with widened(model, reading_of):
        yield
