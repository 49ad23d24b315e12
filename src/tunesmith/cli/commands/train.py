"""`tunesmith train FILE`: from a file to a tuned model in one command."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.dataset import require_file, require_method
from tunesmith.cli.exits import CommandError, Exit
from tunesmith.cli.options import (
    HYPERPARAMETERS,
    Adapter,
    AsJsonLines,
    BaseLearningRate,
    BaseUrl,
    BatchSize,
    DataDir,
    Dataset,
    Epochs,
    LearningRateMultiplier,
    LoraAlpha,
    LoraDropout,
    LoraRank,
    LoraTargets,
    MatmulPrecision,
    MaxGradNorm,
    Quantization,
    Schedule,
    WarmupRatio,
    WeightDecay,
)
from tunesmith.cli.signature import takes

if TYPE_CHECKING:
    from tunesmith.cli.server.find import Connection
    from tunesmith.client import Job
    from tunesmith.settings import Settings


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The options of a run beyond OpenAI's hyperparameters.

    None: the server's setting of that name.
    """

    adapter: Adapter = None
    lora_rank: LoraRank = None
    lora_alpha: LoraAlpha = None
    lora_dropout: LoraDropout = None
    lora_targets: LoraTargets = None
    quantization: Quantization = None
    matmul_precision: MatmulPrecision = None
    base_learning_rate: BaseLearningRate = None
    schedule: Schedule = None
    warmup_ratio: WarmupRatio = None
    weight_decay: WeightDecay = None
    max_grad_norm: MaxGradNorm = None


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """The options of `tunesmith train`."""

    file: Dataset
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="Base model, alias or tuned model to start from.",
            show_default="smollm2-135m-instruct, or the setting base_model",
        ),
    ] = None
    validation: Annotated[
        Path | None, typer.Option(help="Rows to validate on; they are not trained.", show_default=False)
    ] = None
    suffix: Annotated[
        str | None, typer.Option(help="Part of the tuned model's name, up to 64 characters.", show_default=False)
    ] = None
    epochs: Epochs = None
    batch_size: BatchSize = None
    lr_multiplier: LearningRateMultiplier = None
    method: Annotated[str, typer.Option(help="supervised or dpo.", rich_help_panel=HYPERPARAMETERS)] = "supervised"
    beta: Annotated[
        float | None, typer.Option(help="DPO's beta.", show_default="auto", rich_help_panel=HYPERPARAMETERS)
    ] = None
    seed: Annotated[
        int | None,
        typer.Option(help="Makes the run repeatable.", show_default="random", rich_help_panel=HYPERPARAMETERS),
    ] = None
    run: RunOptions = RunOptions()
    evaluate: Annotated[
        bool | None,
        typer.Option(
            "--evaluate/--no-evaluate",
            help="End with a verdict: base and tuned model answer rows that were not trained, a share of FILE where "
            "there is no --validation.",
            show_default="with --validation",
        ),
    ] = None
    detach: Annotated[bool, typer.Option("--detach", help="Print the job's id and do not watch it.")] = False
    as_json: AsJsonLines = False
    base_url: BaseUrl = None
    data_dir: DataDir = None

    def files(self) -> dict[str, Path]:
        """The files, by the parameters that name them in the request."""
        validation = {} if self.validation is None else {"validation_file": self.validation}
        return {"training_file": self.file, **validation}

    def request(self, default_model: str) -> dict[str, object]:
        """The body that creates the job, but for the files' ids."""
        hyperparameters = {
            "n_epochs": self.epochs,
            "batch_size": self.batch_size,
            "learning_rate_multiplier": self.lr_multiplier,
            "beta": self.beta,
        }
        return {
            "model": self.model or default_model,
            "suffix": self.suffix,
            "seed": self.seed,
            "method": {"type": self.method, self.method: {"hyperparameters": _given(hyperparameters)}},
            "tunesmith": _given({**asdict(self.run), "evaluate": self.evaluate}),
        }


@takes(TrainOptions)
def train(options: TrainOptions) -> None:
    """Check FILE, upload it, train, and watch. Ctrl-C detaches; the job goes on.

    If no server is running, one is started for the job and stopped after it.
    """
    from tunesmith.cli.bases import require_no_path
    from tunesmith.cli.configure import load_settings
    from tunesmith.cli.output.watch import watch_to_end
    from tunesmith.cli.server.find import connect
    from tunesmith.cli.submission import check_request, check_space, submit

    settings = load_settings(options.data_dir)
    require_no_path(options.model, settings)
    files = options.files()
    if options.beta is not None and options.method != "dpo":
        raise CommandError("--beta is for --method dpo; leave it out, or give that method.", Exit.USAGE)
    _check_files(files, options.method)
    _warn_of_rate(options, settings)
    with connect(settings, options.base_url, with_worker=True) as connection:
        request = options.request(settings.base_model)
        check_request(connection.client, request)
        if connection.activity_dir is not None:
            check_space(settings.paths.root, files)
        job = submit(connection.client, request, files)
        if options.detach:
            _detach(connection, job, options.as_json)
        else:
            watch_to_end(connection, job, as_json=options.as_json)


def _given(values: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None}


def _check_files(files: Mapping[str, Path], method: str) -> None:
    """Refuses faulty files before they are uploaded. The server checks them again."""
    from tunesmith.check.rules.file_rules import MIN_EXAMPLES

    require_method(method)
    for file in files.values():
        require_file(file)
    for param, file in files.items():
        _check(file, method, MIN_EXAMPLES if param == "training_file" else 1)


def _check(file: Path, method: str, least: int) -> None:
    from tunesmith.check.file_check import CheckOptions, check_file
    from tunesmith.cli.output.check_report import error_count
    from tunesmith.cli.output.reading_bar import ReadingBar

    with ReadingBar(file.name) as progress:
        report = check_file(file, CheckOptions(method=method, min_examples=least), progress=progress)
    if not report.ok:
        first = report.errors[0]
        raise CommandError(f"{file}: {first} ({error_count(report)}; all of them: tunesmith check {file})")


def _warn_of_rate(options: TrainOptions, settings: "Settings") -> None:
    """The job has an event that says the same; it comes when nobody may be looking any more."""
    from tunesmith.cli.output.estimate_table import warn_of_rate

    adapter = options.run.adapter or settings.adapter
    base_rate = options.run.base_learning_rate or settings.model_copy(update={"adapter": adapter}).rate_to_multiply
    warn_of_rate(options.lr_multiplier, base_rate)


def _detach(connection: "Connection", job: "Job", as_json: bool) -> None:
    from tunesmith.cli.configure import again
    from tunesmith.cli.output.terminal import note, print_json, print_plain

    if connection.own is not None:
        connection.own.keep()
    if as_json:
        print_json(job.wire)
    else:
        print_plain(job.id)
        note(f"Watch it: {again(f'jobs watch {job.id}')}")
