"""Loads a base into a runner, in 16 bits where that is accurate enough.

It is where its file is in 16 bits. A base is loaded in the format of its file: its weights are views of it until each
is packed and let go, so there is never a copy of the whole base beside the panels.
"""

from pathlib import Path

import structlog
import torch
from transformers import PreTrainedModel

from tunesmith import __version__
from tunesmith.errors import InvalidRequest
from tunesmith.families.panels import DTYPES, Width, panel_width
from tunesmith.kernels.compiler import is_cached, precompile
from tunesmith.kernels.serving.step import serving_step
from tunesmith.models.directory import fingerprint
from tunesmith.models.facts import compiled_width
from tunesmith.models.weights import load_model
from tunesmith.render.renderer import load_renderer
from tunesmith.serve.engine.model import SequenceChunk
from tunesmith.serve.local.fp16_check import (
    TEXT,
    can_use_fp16,
    compare,
    is_exact_in_fp16,
    read_width,
    write_finding,
)
from tunesmith.serve.local.llama_runner import CompiledRunner, supports
from tunesmith.serve.local.runner import Runner, TransformersRunner
from tunesmith.settings import Settings
from tunesmith.system.activity import doing

log = structlog.get_logger(__name__)


def load_runner(base_dir: Path, settings: Settings) -> tuple[Runner, Width]:
    """The runner and the number format of its weights. Takes seconds.

    Raises InvalidRequest if the setting `serve_weights` asks for a format that this base or machine does not support.
    """
    if not settings.serve_compiled:
        _refuse_fp16(settings.serve_weights, False, "is served by its own modules (serve_compiled is off), in float32")
        return TransformersRunner(load_model(base_dir, torch.float32)), "float32"
    wanted, stored = settings.serve_weights, compiled_width(base_dir, "serving")
    model = load_model(base_dir, DTYPES[stored])
    compiled = supports(model)
    if compiled and not is_cached(serving_step):
        log.info("compiling the kernels for answering, once: half a minute, or more where the processor is busy")
        with doing("compiling the kernels for answering (once on this machine)"):
            precompile("serving", serving_step)
    if wanted == "float32" or not compiled:
        _refuse_fp16(wanted, compiled, "is of a family that is only served in float32")
        return _float32(model), "float32"
    if wanted == "auto" and stored != "float32":
        return CompiledRunner(model, panel_width(stored)), panel_width(stored)
    usable = can_use_fp16(model)
    _refuse_fp16(wanted, usable, "has weights beyond float16's range, or this machine cannot multiply in float16")
    if not usable:
        return _float32(model), "float32"
    if wanted == "float16" or is_exact_in_fp16(model):
        return CompiledRunner(model, "float16"), "float16"
    return _fp16_if_accurate(model, base_dir, settings)


def _refuse_fp16(wanted: str, can: bool, why: str) -> None:
    if wanted == "float16" and not can:
        raise InvalidRequest(f"Setting serve_weights: this base {why}. Set it to 'auto' or 'float32'.")


def _float32(model: PreTrainedModel) -> Runner:
    return CompiledRunner(model) if supports(model) else TransformersRunner(model.float())


def _fp16_if_accurate(model: PreTrainedModel, base_dir: Path, settings: Settings) -> tuple[Runner, Width]:
    """float16 if it reads a text as the reference path does; the finding is kept in the data directory."""
    note = settings.paths.serve / f"{fingerprint(base_dir)}-{__version__}.json"
    width = read_width(note)
    if width is not None:
        return CompiledRunner(model, width), width
    ids = load_renderer(base_dir).encode(TEXT)
    with torch.inference_mode():
        reference = model(torch.tensor([ids])).logits[0].float()
        runner = CompiledRunner(model, "float16")
        finding = compare(reference, runner.forward([SequenceChunk(0, 0, tuple(ids), None, len(ids))]), ids)
        runner.clear(0)
    write_finding(note, finding)
    log.debug("checked 16-bit weights", base=base_dir.name, **finding.report())
    if finding.acceptable:
        return runner, "float16"
    return CompiledRunner(load_model(base_dir, torch.float32)), "float32"
