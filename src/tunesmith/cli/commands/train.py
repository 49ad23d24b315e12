"""`tunesmith train FILE`: from a file to a tuned model in one command."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.commands.data import require_file
from tunesmith.cli.exits import CommandError, Exit
from tunesmith.cli.options import (
    Adapter,
    BaseLearningRate,
    BaseUrl,
    DataDir,
    Dataset,
    LoraAlpha,
    LoraDropout,
    LoraRank,
    LoraTargets,
    MaxGradNorm,
    Quantization,
    Schedule,
    WarmupRatio,
    WeightDecay,
)

if TYPE_CHECKING:
    from tunesmith.cli.server.find import Connection
    from tunesmith.client import Client, Job


def train(
    file: Dataset,
    model: Annotated[
        str | None,
        typer.Option("--model", help="Base, alias or tuned model to start from.", show_default=False),
    ] = None,
    validation: Annotated[
        Path | None, typer.Option(help="Rows to measure on, never trained.", show_default=False)
    ] = None,
    suffix: Annotated[
        str | None, typer.Option(help="Goes into the model's name, up to 64 characters.", show_default=False)
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs, instead of auto.", show_default=False)] = None,
    batch_size: Annotated[int | None, typer.Option(help="Rows a step, instead of auto.", show_default=False)] = None,
    lr_multiplier: Annotated[
        float | None,
        typer.Option("--lr-multiplier", help="Multiplies the base learning rate, instead of auto.", show_default=False),
    ] = None,
    method: Annotated[str, typer.Option(help="supervised or dpo.")] = "supervised",
    beta: Annotated[float | None, typer.Option(help="DPO's beta, instead of auto.", show_default=False)] = None,
    seed: Annotated[int | None, typer.Option(help="Makes the run repeatable.", show_default=False)] = None,
    adapter: Adapter = None,
    lora_rank: LoraRank = None,
    lora_alpha: LoraAlpha = None,
    lora_dropout: LoraDropout = None,
    lora_targets: LoraTargets = None,
    quantization: Quantization = None,
    base_learning_rate: BaseLearningRate = None,
    schedule: Schedule = None,
    warmup_ratio: WarmupRatio = None,
    weight_decay: WeightDecay = None,
    max_grad_norm: MaxGradNorm = None,
    detach: Annotated[bool, typer.Option("--detach", help="Do not watch; print the job's id.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Events as JSON lines; the job is the last one.")] = False,
    base_url: BaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Check FILE, upload it, train, and watch. Ctrl-C detaches; the job goes on.

    Without a running server, one is started for the job and stopped after it.
    """
    from tunesmith.cli.configure import load_settings
    from tunesmith.cli.server.find import connect

    settings = load_settings(data_dir)
    _check(require_file(file), method)
    if validation is not None:
        _check(require_file(validation), method, min_examples=1)
    hyperparameters = {
        "n_epochs": epochs,
        "batch_size": batch_size,
        "learning_rate_multiplier": lr_multiplier,
        "beta": beta,
    }
    options = {
        "adapter": adapter,
        "lora_rank": lora_rank,
        "lora_alpha": lora_alpha,
        "lora_dropout": lora_dropout,
        "lora_targets": lora_targets,
        "quantization": quantization,
        "base_learning_rate": base_learning_rate,
        "schedule": schedule,
        "warmup_ratio": warmup_ratio,
        "weight_decay": weight_decay,
        "max_grad_norm": max_grad_norm,
    }
    request: dict[str, object] = {
        "model": model or settings.base_model,
        "suffix": suffix,
        "seed": seed,
        "method": {
            "type": method,
            method: {"hyperparameters": {k: v for k, v in hyperparameters.items() if v is not None}},
        },
        "tunesmith": {name: value for name, value in options.items() if value is not None},
    }
    with connect(settings, base_url, with_worker=True) as connection:
        job = _create(connection.client, request, file, validation)
        if detach:
            _detach(connection, job, as_json)
        else:
            watch_job(connection, job, as_json=as_json)


def watch_job(connection: "Connection", job: "Job", *, as_json: bool) -> None:
    """Watches to the end and says what came of it. Ctrl-C ends the watching only."""
    from tunesmith.cli.configure import again
    from tunesmith.cli.output.terminal import note
    from tunesmith.cli.output.watch import conclude, next_steps, watch

    try:
        job = watch(connection.client, job, as_json=as_json)
    except KeyboardInterrupt:
        if connection.own is not None:
            connection.own.keep()
        note(f"\nDetached; {job.id} goes on{' in the background' if connection.own else ''}.")
        note(f"  come back:  {again(f'jobs watch {job.id}')}")
        note(f"  stop it:    {again(f'jobs cancel {job.id}')}")
        raise typer.Exit(Exit.INTERRUPTED) from None
    conclude(job, as_json=as_json)
    if not as_json:
        next_steps(job)


def _check(file: Path, method: str, min_examples: int = 10) -> None:
    """A faulty file is told now, in seconds, not by a failed job. The server checks again."""
    from tunesmith.check.file_check import METHOD_KINDS, CheckOptions, check_file
    from tunesmith.cli.output.tables import faults

    if method not in METHOD_KINDS:
        raise CommandError(f"{method!r} is not a training method; take one of {', '.join(METHOD_KINDS)}.", Exit.USAGE)
    report = check_file(file, CheckOptions(method=method, min_examples=min_examples))
    if not report.ok:
        first = report.errors[0]
        raise CommandError(f"{file}: {first} ({faults(report)}; all of them: tunesmith check {file})")


def _create(client: "Client", request: dict[str, object], file: Path, validation: Path | None) -> "Job":
    uploaded = {"training_file": _upload(client, file)}
    if validation is not None:
        uploaded["validation_file"] = _upload(client, validation)
    return client.create_job({**request, **uploaded})


def _upload(client: "Client", path: Path) -> str:
    file = client.upload(path)
    if file.status == "error":
        raise CommandError(f"The server refuses {path}: {file.status_details}")
    return file.id


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
