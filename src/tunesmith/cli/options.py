"""Options that several commands share, written once."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

DataDir: TypeAlias = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Where Tunesmith keeps everything (TUNESMITH_DATA_DIR).", show_default=False),
]
BaseUrl: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--base-url",
        envvar="TUNESMITH_BASE_URL",
        help="The server, e.g. http://127.0.0.1:8000/v1. Default: the one running on the data directory.",
        show_envvar=False,
        show_default=False,
    ),
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Dataset: TypeAlias = Annotated[
    Path,
    typer.Argument(help="Training data, one JSON object a line.", metavar="FILE", show_default=False),
]
JobId: TypeAlias = Annotated[
    str, typer.Argument(help="Job id (ftjob-…), or 'last' for the newest.", metavar="JOB", show_default=False)
]


# What decides a run beside OpenAI's hyperparameters: the server's settings of the same names, for one job.
Adapter: TypeAlias = Annotated[
    str | None, typer.Option(help="lora, or none: all weights are trained.", show_default=False)
]
LoraRank: TypeAlias = Annotated[int | None, typer.Option(help="Rank of the adapter.", show_default=False)]
LoraAlpha: TypeAlias = Annotated[
    float | None, typer.Option(help="Scales the adapter: alpha / rank.", show_default=False)
]
LoraDropout: TypeAlias = Annotated[float | None, typer.Option(help="Dropout before the adapter.", show_default=False)]
LoraTargets: TypeAlias = Annotated[
    str | None,
    typer.Option(help="all-linear, attention, mlp, or layers' names: q_proj,v_proj.", show_default=False),
]
Quantization: TypeAlias = Annotated[
    str | None, typer.Option(help="Of the frozen base: none or nf4 (CUDA only).", show_default=False)
]
Schedule: TypeAlias = Annotated[
    str | None, typer.Option(help="Rate after the warm-up: linear, cosine or constant.", show_default=False)
]
WarmupRatio: TypeAlias = Annotated[
    float | None, typer.Option(help="Share of the steps in which the rate rises.", show_default=False)
]
WeightDecay: TypeAlias = Annotated[float | None, typer.Option(help="AdamW's weight decay.", show_default=False)]
MaxGradNorm: TypeAlias = Annotated[
    float | None, typer.Option(help="Longer gradients are clipped to it; 0: never.", show_default=False)
]
BaseLearningRate: TypeAlias = Annotated[
    float | None, typer.Option(help="What --lr-multiplier multiplies.", show_default=False)
]
