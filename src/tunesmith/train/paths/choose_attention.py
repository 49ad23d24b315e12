"""Whether FlashAttention's kernel computes the token tree on this GPU.

It is tried on a few tokens beside the dense mask.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tunesmith.families.layout import head_size
from tunesmith.system.memory import is_out_of_memory
from tunesmith.train.core.packing import TokenRow, pack
from tunesmith.train.core.token_tree import Tree
from tunesmith.train.layers.attention import TreeRule, accelerated_attention
from tunesmith.train.layers.dense_blocks import Rule
from tunesmith.train.layers.varlen_attention import computes

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOLERANCE = 0.03  # of the largest value, in 16 bits; a wrong merge is off by a tenth and more
ROWS = ((40, 0), (40, 17), (40, 30), (9, 25))  # tokens of a beginning that rows share, and of their own


def varlen_gap(model: "PreTrainedModel") -> str | None:
    """Why attention takes a dense mask on the model's GPU; None where it need not."""
    config, device = model.config.get_text_config(), model.device
    heads = config.num_attention_heads
    groups = getattr(config, "num_key_value_heads", None) or heads
    draw = torch.Generator().manual_seed(0)
    rows = [(*range(shared), *range(100 * n, 100 * n + own)) for n, (shared, own) in enumerate(ROWS, 1)]
    packed = pack([TokenRow(ids, (1.0,) * len(ids)) for ids in rows])
    inputs = [
        torch.randn(1, count, packed.length, head_size(config), generator=draw).to(device, model.dtype)
        for count in (heads, groups, groups)
    ]
    if not computes(inputs[0], inputs[2]):
        return f"the kernel does not compute heads of {head_size(config)} values in {model.dtype}"
    try:
        mine, theirs = (_tried(inputs, Tree.of(packed, varlen=varlen)) for varlen in (True, False))
    except Exception as error:  # the kernel is not in this build of PyTorch, or not for this GPU
        if is_out_of_memory(error):
            raise
        return f"the kernel failed: {type(error).__name__}: {' '.join(str(error).split())[:160]}"
    worst = max(float((one - other).abs().max() / other.abs().max()) for one, other in zip(mine, theirs, strict=True))
    return None if worst <= TOLERANCE else f"the kernel differs from the mask by {worst:.2g} of the largest value"


def _tried(inputs: list[Tensor], tree: Tree) -> list[Tensor]:
    """The result and the gradients of its inputs."""
    q, k, v = (one.clone().requires_grad_() for one in inputs)
    out = accelerated_attention(q, k, v, None, TreeRule(tree, Rule(q.shape[-1] ** -0.5)))
    (out.float() * torch.arange(out.shape[1], device=out.device).cos().view(1, -1, 1, 1)).sum().backward()
    return [one.detach().float() for one in (out, *(leaf.grad for leaf in (q, k, v) if leaf.grad is not None))]
