"""Options that several commands share, each written once."""

from pathlib import Path
from typing import Annotated, TypeAlias, cast

import typer
from typer.models import OptionInfo

from tunesmith.cli.exits import CommandError, Exit


def named(context: typer.Context, argument: typer.CallbackParam, value: str | None) -> str | None:
    """The value of an argument.

    Raises CommandError for an empty one, such as a shell variable that is not set.
    """
    if value is not None and not value.strip():
        raise CommandError(
            f"{str(argument.metavar or argument.name).strip('[]')} is empty: is a variable of the shell not set? "
            f"See: {context.command_path} --help",
            Exit.USAGE,
        )
    return value


SERVER_PANEL = "Server and output"
HYPERPARAMETERS = "Hyperparameters (OpenAI's)"
ADAPTER_PANEL = "Adapter and optimizer (defaults: the server's settings)"

DataDir: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        help="Where Tunesmith keeps its data (TUNESMITH_DATA_DIR).",
        show_default=False,
        rich_help_panel=SERVER_PANEL,
    ),
]
BaseUrl: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--base-url",
        envvar="TUNESMITH_BASE_URL",
        help="Server address, e.g. http://127.0.0.1:8000/v1. Default: the server running on the data directory.",
        show_envvar=False,
        show_default=False,
        rich_help_panel=SERVER_PANEL,
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
    str,
    typer.Argument(
        help="Job id (ftjob-…), or 'last' for the newest job.", metavar="JOB", show_default=False, callback=named
    ),
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
Yes: TypeAlias = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
OutputFile: TypeAlias = Annotated[
    Path | None, typer.Option("--output", "-o", help="Write to this file instead of stdout.", show_default=False)
]
Epochs: TypeAlias = Annotated[
    int | None, typer.Option(help="Epochs.", show_default="auto", rich_help_panel=HYPERPARAMETERS)
]
BatchSize: TypeAlias = Annotated[
    int | None, typer.Option(help="Rows per step.", show_default="auto", rich_help_panel=HYPERPARAMETERS)
]

LearningRateMultiplier: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--lr-multiplier",
        help="Multiplies the base learning rate.",
        show_default="auto",
        rich_help_panel=HYPERPARAMETERS,
    ),
]


def _setting(text: str, default: str) -> OptionInfo:
    """An option of which the server has a setting."""
    return cast(OptionInfo, typer.Option(help=text, show_default=default, rich_help_panel=ADAPTER_PANEL))


# Beyond OpenAI's hyperparameters: the server's settings of the same names, for one job. The defaults in the help are
# those of the settings; a test compares them.
Adapter: TypeAlias = Annotated[str | None, _setting("lora, or none to train all weights.", "lora")]
LoraRank: TypeAlias = Annotated[int | None, _setting("Rank of the LoRA adapter.", "16")]
LoraAlpha: TypeAlias = Annotated[
    float | None, _setting("Scale of the adapter: its output is multiplied by alpha / rank.", "twice the rank")
]
LoraDropout: TypeAlias = Annotated[float | None, _setting("Dropout on the adapter's input.", "0.0")]
LoraTargets: TypeAlias = Annotated[
    str | None, _setting("Layers to adapt: all-linear, attention, mlp, or names such as q_proj,v_proj.", "all-linear")
]
MatmulPrecision: TypeAlias = Annotated[
    str | None,
    _setting("Of products with a bfloat16 base on a CPU: float32, or bfloat16 (AVX512-BF16, AMX).", "float32"),
]
Quantization: TypeAlias = Annotated[
    str | None, _setting("Quantization of the frozen base: none, int8 or int4 (CPU), nf4 (CUDA).", "none")
]
BaseLearningRate: TypeAlias = Annotated[
    float | None, _setting("Learning rate that --lr-multiplier multiplies.", "0.00025")
]
Schedule: TypeAlias = Annotated[
    str | None, _setting("Learning rate after the warm-up: linear, cosine or constant.", "linear")
]
WarmupRatio: TypeAlias = Annotated[float | None, _setting("Share of the steps used for the warm-up.", "0.03")]
WeightDecay: TypeAlias = Annotated[float | None, _setting("AdamW's weight decay.", "0.0")]
MaxGradNorm: TypeAlias = Annotated[
    float | None, _setting("Gradients are clipped to this norm; 0 turns clipping off.", "1.0")
]
