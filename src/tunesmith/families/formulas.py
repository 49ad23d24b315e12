"""What a model computes otherwise than Llama, as the kernels' numbers.

Imports no torch: `model_formulas` reads them from a model.
"""

from dataclasses import dataclass

from tunesmith.kernels.records import Activation


@dataclass(frozen=True, slots=True)
class LayerFormula:
    """What a layer does otherwise than others; see `step_args.Layer`."""

    rotation: int
    window: int


@dataclass(frozen=True, slots=True)
class Formulas:
    """See `step_args.StepArgs`."""

    layers: tuple[LayerFormula, ...]
    rotations: tuple[str | None, ...]  # types of layers with angles of their own; None: all have the same
    rotary_size: int
    embedding_scale: float
    branch_scale: float
    score_scale: float
    score_cap: float
    wide_norms: bool
    activation: Activation


def plain_formulas(layers: int, head: int) -> Formulas:
    """Llama's. `head`: the size of a head."""
    return Formulas(
        layers=(LayerFormula(rotation=1, window=0),) * layers,
        rotations=(None,),
        rotary_size=head,
        embedding_scale=1.0,
        branch_scale=1.0,
        score_scale=float(head**-0.5),
        score_cap=0.0,
        wide_norms=False,
        activation=Activation.SILU,
    )
