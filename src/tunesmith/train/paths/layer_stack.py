"""All layers of a base as one function of a token tree, behind one protocol.

`paths.compiled.CompiledLayers` and `TorchLayers` implement it; accelerators take the second. The padded path is not
one of them: as the reference it shares nothing with what it checks, and a base for which it is used may compute its
logits in a way of its own (Granite divides them), so it goes from rows to log-probabilities by itself
(`paths.padded`).
"""

from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from tunesmith.train.core.packing import Packed
from tunesmith.train.core.token_tree import Tree
from tunesmith.train.layers import attention

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class LayerStack(Protocol):
    """The layers of a base from token ids to the final norm.

    There is no `backward` to call: losses and the output layer are autograd's, so each implementation is a node of its
    graph, and its backward pass adds to the gradients of the trainable parameters.
    """

    def hidden(self, packed: Packed, sources: Tensor) -> Tensor:
        """Final hidden states [len(sources), hidden] at these packed positions."""
        ...


class TorchLayers:
    """The base's own modules, whose attention follows the token tree."""

    def __init__(self, model: "PreTrainedModel", trains: bool = False, varlen: bool = False) -> None:
        """`trains`: the model is in training mode where gradients are wanted (dropout, recomputed activations).

        `varlen`: on a GPU, attention takes no mask where it need not.
        """
        attention.register()
        self._model, self._trains, self._varlen = model, trains, varlen

    def hidden(self, packed: Packed, sources: Tensor) -> Tensor:
        """See `LayerStack`; UnsupportedAttention if the model does not compute the tree."""
        set_mode(self._model, attention.NAME, self._trains)
        output = self._model.base_model(
            input_ids=torch.tensor([packed.ids], device=sources.device),
            position_ids=torch.tensor([packed.positions], device=sources.device),
            use_cache=False,
            tree=Tree.of(packed, varlen=self._varlen),
        )
        return output.last_hidden_state[0].index_select(0, sources)


def set_mode(model: "PreTrainedModel", attention_name: str, trains: bool) -> None:
    """Selects the attention, and training mode if `trains` and gradients are enabled."""
    if model.config._attn_implementation != attention_name:
        model.set_attn_implementation(attention_name)
    wanted = trains and torch.is_grad_enabled()
    if model.training != wanted:
        model.train(wanted)
