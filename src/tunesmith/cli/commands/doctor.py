"""`tunesmith doctor`: tries what this machine computes training on."""

import subprocess
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.exits import CommandError, Exit
from tunesmith.cli.options import AsJson, DataDir

if TYPE_CHECKING:
    from pathlib import Path

    from tunesmith.settings import Settings

TRIAL = "tunesmith.train.trial"


class TrialShape(StrEnum):
    """The models with random weights that a trial is made with."""

    TINY = "tiny"
    SMALL = "0.6B"
    MIDDLE = "1.7B"
    LARGE = "8B"


def doctor(
    gpu: Annotated[bool, typer.Option("--gpu", help="Try and measure training on the GPU, at most 8 minutes.")] = False,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda or cuda:1. Default: the setting train_device.", show_default=False)
    ] = None,
    shape: Annotated[
        list[TrialShape] | None,
        typer.Option(
            help="Sizes to try, with random weights. Default: all but tiny, and the base.", show_default=False
        ),
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Try and measure what this machine trains on.

    Speed, memory, the loss beside float32, and whether a resumed run has the same bits. Nothing is downloaded. TRL and
    vLLM are compared where they are installed.
    """
    from tunesmith.cli.configure import load_settings
    from tunesmith.cli.output.terminal import print_plain
    from tunesmith.system.python import module_command

    if not gpu:
        raise CommandError("Say what to try: tunesmith doctor --gpu", Exit.USAGE)
    arguments = _arguments(load_settings(data_dir), device, shape or [])
    done = subprocess.run(module_command(TRIAL, *arguments), stdout=subprocess.PIPE, text=True, check=False)
    if done.stdout:
        print_plain(done.stdout.splitlines()[-1] if as_json else done.stdout.rstrip())
    _demand_success(done.returncode)


def _demand_success(status: int) -> None:
    if status:
        raise typer.Exit(Exit.FAILED)


def _arguments(settings: "Settings", device: str | None, shapes: list[TrialShape]) -> list[str]:
    base = None if shapes else _base(settings)
    asked = [word for one in shapes for word in ("--shape", str(one))]
    return ["--device", device or settings.train_device, *asked, *(("--base", str(base)) if base else ())]


def _base(settings: "Settings") -> "Path | None":
    """Where the default base is, if it is here."""
    from tunesmith.models.directory import present_directory
    from tunesmith.models.registry import default_base

    return present_directory(default_base(settings), settings)
