"""Loads a base into a runner, in 16 bits where that is accurate enough.

It is where its file is in 16 bits. Without torch where the base is compiled and its files say what it is; others are
loaded by transformers, in the format of the file. The weights are views of it until each is packed and let go, so there
is never a copy of the whole base beside the panels.
"""

from collections.abc import Callable
from pathlib import Path

import structlog

from tunesmith import __version__
from tunesmith.errors import InvalidRequest
from tunesmith.families.array_panels import Width
from tunesmith.kernels.compiler import is_cached, precompile
from tunesmith.kernels.serving.packing import pack_squares
from tunesmith.kernels.serving.step import serving_step
from tunesmith.models.directory import fingerprint
from tunesmith.render.renderer import load_renderer
from tunesmith.serve.engine.model import SequenceChunk
from tunesmith.serve.local.base_weights import BaseWeights, map_weights
from tunesmith.serve.local.fp16_check import (
    TEXT,
    can_use_fp16,
    compare,
    is_exact_in_fp16,
    read_width,
    write_finding,
)
from tunesmith.serve.local.llama_runner import CompiledRunner
from tunesmith.serve.local.runner import AnyAdapter, Runner
from tunesmith.settings import Settings
from tunesmith.system.activity import doing
from tunesmith.system.cpu import cpu_count

log = structlog.get_logger(__name__)


def load_runner(base_dir: Path, settings: Settings) -> tuple[Runner, Width]:
    """The runner and the number format of its weights. Takes seconds.

    Raises InvalidRequest if the setting `serve_weights` asks for a format that this base or machine does not support.
    """
    if not settings.serve_compiled:
        _refuse_fp16(settings.serve_weights, False, "is served by its own modules (serve_compiled is off), in float32")
        return _own_modules(base_dir), "float32"
    weights = map_weights(base_dir)
    if weights is not None:
        return _compiled(weights, lambda: weights, base_dir, settings)
    return _by_transformers(base_dir, settings)


def _by_transformers(base_dir: Path, settings: Settings) -> tuple[Runner, Width]:
    """Of a base whose files leave something to its family, or whose family is not compiled."""
    from tunesmith.families.panels import DTYPES
    from tunesmith.models.facts import compiled_width
    from tunesmith.models.weights import load_model
    from tunesmith.serve.local.torch_weights import supports, weights_of
    from tunesmith.serve.local.transformers_runner import TransformersRunner

    kind = DTYPES[compiled_width(base_dir)]
    model = load_model(base_dir, kind)
    if supports(model):
        return _compiled(weights_of(model), lambda: weights_of(load_model(base_dir, kind)), base_dir, settings)
    _refuse_fp16(settings.serve_weights, False, "is of a family that is only served in float32")
    return TransformersRunner(model.float()), "float32"


def _own_modules(base_dir: Path) -> Runner:
    import torch

    from tunesmith.models.weights import load_model
    from tunesmith.serve.local.transformers_runner import TransformersRunner

    return TransformersRunner(load_model(base_dir, torch.float32))


def _compiled(
    weights: BaseWeights, again: Callable[[], BaseWeights], base_dir: Path, settings: Settings
) -> tuple[Runner, Width]:
    """`again`: the weights once more, since a runner may use them up."""
    if not (is_cached(serving_step) and is_cached(pack_squares)):
        log.info("compiling the kernels for answering, once: half a minute, or more where the processor is busy")
        with doing("compiling the kernels for answering (once on this machine)"):
            precompile("serving", serving_step, pack_squares)
    wanted = settings.serve_weights
    if wanted == "float32":
        return CompiledRunner(weights), "float32"
    if wanted == "auto" and (stored := weights.stored()) != "float32":
        return CompiledRunner(weights, stored), stored
    width = read_width(_note(base_dir, settings)) if wanted == "auto" else None
    if width is not None:
        return CompiledRunner(weights, width), width
    usable = can_use_fp16(weights.linears())
    _refuse_fp16(wanted, usable, "has weights beyond float16's range, or this machine cannot multiply in float16")
    if not usable:
        return CompiledRunner(weights), "float32"
    if wanted == "float16" or is_exact_in_fp16(weights.linears()):
        return CompiledRunner(weights, "float16"), "float16"
    return _fp16_if_accurate(weights, again, base_dir, _note(base_dir, settings))


def _refuse_fp16(wanted: str, can: bool, why: str) -> None:
    if wanted == "float16" and not can:
        raise InvalidRequest(f"Setting serve_weights: this base {why}. Set it to 'auto' or 'float32'.")


def _note(base_dir: Path, settings: Settings) -> Path:
    """Where the finding about a base is kept, in the data directory."""
    return settings.paths.serve / f"{fingerprint(base_dir)}-{__version__}.json"


def _fp16_if_accurate(
    weights: BaseWeights, again: Callable[[], BaseWeights], base_dir: Path, note: Path
) -> tuple[Runner, Width]:
    """float16 if it reads a text as float32 does; the finding is kept."""
    ids = tuple(load_renderer(base_dir).encode(TEXT))
    chunk: SequenceChunk[AnyAdapter] = SequenceChunk(0, 0, ids, None, len(ids))
    reference = CompiledRunner(weights).forward([chunk], cpu_count())
    runner = CompiledRunner(again(), "float16")
    finding = compare(reference, runner.forward([chunk], cpu_count()), ids)
    runner.clear(0)
    write_finding(note, finding)
    log.debug("checked 16-bit weights", base=base_dir.name, **finding.report())
    if finding.acceptable:
        return runner, "float16"
    del runner  # before the base is in memory once more
    return CompiledRunner(again()), "float32"
