"""Options that several commands share, each written once."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

DataDir: TypeAlias = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Where Tunesmith keeps its data (TUNESMITH_DATA_DIR).", show_default=False),
]
BaseUrl: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--base-url",
        envvar="TUNESMITH_BASE_URL",
        help="Server address, e.g. http://127.0.0.1:8000/v1. Default: the server running on the data directory.",
        show_envvar=False,
        show_default=False,
    ),
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
AsJsonLines: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print events as JSON lines; the last line is the job.")
]
Dataset: TypeAlias = Annotated[
    Path,
    typer.Argument(help="Training data: one JSON object per line.", metavar="FILE", show_default=False),
]
JobId: TypeAlias = Annotated[
    str, typer.Argument(help="Job id (ftjob-…), or 'last' for the newest job.", metavar="JOB", show_default=False)
]
Base: TypeAlias = Annotated[
    str | None,
    typer.Option("--base", help="Base model (or alias) whose tokenizer counts the tokens.", show_default=False),
]
RowMethod: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--method", help="Training method the rows must suit: supervised, dpo or reinforcement.", show_default=False
    ),
]
Epochs: TypeAlias = Annotated[int | None, typer.Option(help="Epochs, instead of auto.", show_default=False)]
BatchSize: TypeAlias = Annotated[int | None, typer.Option(help="Rows per step, instead of auto.", show_default=False)]


# Beyond OpenAI's hyperparameters: the server's settings of the same names, for one job.
Adapter: TypeAlias = Annotated[str | None, typer.Option(help="lora, or none to train all weights.", show_default=False)]
LoraRank: TypeAlias = Annotated[int | None, typer.Option(help="Rank of the LoRA adapter.", show_default=False)]
LoraAlpha: TypeAlias = Annotated[
    float | None,
    typer.Option(help="Scale of the adapter: its output is multiplied by alpha / rank.", show_default=False),
]
LoraDropout: TypeAlias = Annotated[
    float | None, typer.Option(help="Dropout on the adapter's input.", show_default=False)
]
LoraTargets: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Layers to adapt: all-linear, attention, mlp, or names such as q_proj,v_proj.", show_default=False
    ),
]
Quantization: TypeAlias = Annotated[
    str | None, typer.Option(help="Quantization of the frozen base: none or nf4 (CUDA only).", show_default=False)
]
BaseLearningRate: TypeAlias = Annotated[
    float | None, typer.Option(help="Learning rate that --lr-multiplier multiplies.", show_default=False)
]
Schedule: TypeAlias = Annotated[
    str | None,
    typer.Option(help="Learning rate after the warm-up: linear, cosine or constant.", show_default=False),
]
WarmupRatio: TypeAlias = Annotated[
    float | None, typer.Option(help="Share of the steps used for the warm-up.", show_default=False)
]
WeightDecay: TypeAlias = Annotated[float | None, typer.Option(help="AdamW's weight decay.", show_default=False)]
MaxGradNorm: TypeAlias = Annotated[
    float | None, typer.Option(help="Gradients are clipped to this norm; 0 turns clipping off.", show_default=False)
]
