"""Loads a base into a runner, in 16 bits where that is accurate enough.

It is where its file is in 16 bits. What came from a GGUF file of quantised blocks is served from these. Without torch
where the base is compiled and its files say what it is; others are loaded by transformers, in the format of the file.
The weights are views of it until each is packed and let go, so there is never a copy of the whole base beside the
panels.
"""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal, TypeAlias, cast

import structlog

from tunesmith import __version__
from tunesmith.errors import InvalidRequest
from tunesmith.families.array_panels import QUANTISED, Width
from tunesmith.kernels.compiler import is_cached, precompile
from tunesmith.kernels.dots.unit import DotUnit, dot_unit
from tunesmith.kernels.rounding import round_panels
from tunesmith.kernels.serving.packing import pack_squares
from tunesmith.kernels.serving.step import serving_step
from tunesmith.kernels.vectors import HAS_HALF
from tunesmith.models.directory import fingerprint
from tunesmith.models.gguf.block_index import map_blocks
from tunesmith.models.options_check import NOT_SERVED_SO
from tunesmith.render.renderer import load_renderer
from tunesmith.serve.engine.model import SequenceChunk
from tunesmith.serve.local.base_weights import BaseWeights, map_weights
from tunesmith.serve.local.fp16_check import (
    TEXT,
    Finding,
    can_use_fp16,
    compare,
    is_exact_in_fp16,
    read_finding,
    read_width,
    write_finding,
)
from tunesmith.serve.local.llama_runner import CompiledRunner
from tunesmith.serve.local.runner import AnyAdapter, Runner
from tunesmith.settings import Settings
from tunesmith.system.activity import doing
from tunesmith.system.cpu import cpu_count
from tunesmith.system.memory import free_memory

log = structlog.get_logger(__name__)
Format: TypeAlias = Width | Literal["blocks"]  # those of a GGUF file


def load_runner(base_dir: Path, settings: Settings) -> tuple[Runner, Format]:
    """The runner and the number format of its weights. Takes seconds.

    Raises InvalidRequest if the setting `serve_weights` asks for a format that this base or machine does not support,
    or `serve_matmul_precision` for products that this processor does not have.
    """
    unit = _unit(settings)
    runner, width = _load(base_dir, settings)
    if unit:
        _use_dots(runner, unit, base_dir, settings)
    return runner, width


def _load(base_dir: Path, settings: Settings) -> tuple[Runner, Format]:
    if not settings.serve_compiled:
        _refuse(settings.serve_weights, False, "is served by its own modules (serve_compiled is off), in float32")
        return _own_modules(base_dir), "float32"
    weights = map_weights(base_dir)
    if weights is not None:
        return _compiled(weights, lambda: weights, base_dir, settings)
    return _by_transformers(base_dir, settings)


def _by_transformers(base_dir: Path, settings: Settings) -> tuple[Runner, Format]:
    """Of a base whose files leave something to its family, or whose family is not compiled."""
    from tunesmith.families.panels import DTYPES
    from tunesmith.models.facts import compiled_width
    from tunesmith.models.weights import load_as_stored
    from tunesmith.serve.local.torch_weights import supports, weights_of
    from tunesmith.serve.local.transformers_runner import TransformersRunner

    kind = DTYPES[compiled_width(base_dir)]
    model = load_as_stored(base_dir, kind)
    if supports(model):
        return _compiled(weights_of(model), lambda: weights_of(load_as_stored(base_dir, kind)), base_dir, settings)
    _refuse(settings.serve_weights, False, "is of a family that is only served in float32")
    return TransformersRunner(model.float()), "float32"


def _own_modules(base_dir: Path) -> Runner:
    import torch

    from tunesmith.models.weights import load_model
    from tunesmith.serve.local.transformers_runner import TransformersRunner

    return TransformersRunner(load_model(base_dir, torch.float32))


def _compiled(
    weights: BaseWeights, again: Callable[[], BaseWeights], base_dir: Path, settings: Settings
) -> tuple[Runner, Format]:
    """`again`: the weights once more, since a runner may use them up."""
    entries = serving_step, pack_squares, round_panels
    if not all(is_cached(entry) for entry in entries):
        log.info("compiling the kernels for answering, once: half a minute, or more where the processor is busy")
        with doing("compiling the kernels for answering (once on this machine)"):
            precompile("serving", *entries)
    wanted = settings.serve_weights
    if wanted == "float32":
        return CompiledRunner(weights), "float32"
    if wanted != "float16" and HAS_HALF:  # which the scales of blocks are in
        in_blocks = replace(weights, blocks=map_blocks(base_dir))
        if in_blocks.is_in_blocks():
            return CompiledRunner(in_blocks, "float32" if wanted == "auto" else wanted), "blocks"
    if wanted in QUANTISED:
        return _rounded(weights, again, base_dir, settings), wanted
    if wanted == "auto" and (stored := weights.stored()) != "float32":
        return CompiledRunner(weights, stored), stored
    width = read_width(_note(base_dir, settings)) if wanted == "auto" else None
    if width is not None:
        return CompiledRunner(weights, width), width
    usable = can_use_fp16(weights.linears())
    _refuse(wanted, usable, "has weights beyond float16's range, or this machine cannot multiply in float16")
    if not usable:
        return CompiledRunner(weights), "float32"
    if wanted == "float16" or is_exact_in_fp16(weights.linears()):
        return CompiledRunner(weights, "float16"), "float16"
    return _fp16_if_accurate(weights, again, base_dir, _note(base_dir, settings))


def _unit(settings: Settings) -> DotUnit:
    """What multiplies rounded activations; NONE where products are to be exact."""
    if settings.serve_matmul_precision == "float32":
        return DotUnit.NONE
    if not (unit := dot_unit()):
        raise InvalidRequest(NOT_SERVED_SO)
    return unit


def _use_dots(runner: Runner, unit: DotUnit, base_dir: Path, settings: Settings) -> None:
    """Products of rounded activations, unless they are off; measured at the first load, and kept."""
    if not isinstance(runner, CompiledRunner) or not runner.takes_dots:
        log.warning(
            "serve_matmul_precision: exact products; its layers are not in bfloat16, or have odd sizes",
            base=base_dir.name,
        )
        return
    note = settings.paths.serve / f"{fingerprint(base_dir)}-{__version__}-{unit.name.lower()}.json"
    finding = read_finding(note)
    if finding is None:
        finding = _rounded_products(runner, unit, _text(base_dir))
        write_finding(note, finding)
        log.info(f"serve_matmul_precision: {finding.told}", base=base_dir.name, unit=unit.name, **asdict(finding))
    if finding.is_wrong:
        log.warning("serve_matmul_precision: exact products, as others are wrong here", base=base_dir.name)
    runner.use_dots(DotUnit.NONE if finding.is_wrong else unit)


def _rounded_products(runner: CompiledRunner, unit: DotUnit, chunk: SequenceChunk[AnyAdapter]) -> Finding:
    """How they compare with exact ones on a text."""
    reference = runner.forward([chunk], cpu_count())
    runner.use_dots(unit)
    finding = compare(reference, runner.forward([chunk], cpu_count()), chunk.ids)
    runner.clear(0)
    return finding


def _refuse(wanted: str, can: bool, why: str) -> None:
    if wanted in ("float16", *QUANTISED) and not can:
        raise InvalidRequest(f"Setting serve_weights: this base {why}. Set it to 'auto' or 'float32'.")


def _note(base_dir: Path, settings: Settings, width: Width = "float16") -> Path:
    """Where the finding about a base at a width is kept, in the data directory."""
    suffix = f"-{width}" if width in QUANTISED else ""
    return settings.paths.serve / f"{fingerprint(base_dir)}-{__version__}{suffix}.json"


def _rounded(weights: BaseWeights, again: Callable[[], BaseWeights], base_dir: Path, settings: Settings) -> Runner:
    """In 8 or 4 bits; what that costs is measured at the first load, and kept.

    Not measured where the weights as they are stored do not fit into memory: they are not needed afterwards.
    """
    width = cast(Width, settings.serve_weights)  # of QUANTISED
    _refuse(width, HAS_HALF, "cannot be read in few bits: this processor does not convert float16, which scales are in")
    note = _note(base_dir, settings, width)
    if read_finding(note) is not None:
        return CompiledRunner(weights, width)
    if (needed := weights.panel_bytes()) > free_memory():
        log.warning("what rounding costs is not measured: not enough memory", base=base_dir.name, bytes=needed)
        return CompiledRunner(weights, width)
    chunk = _text(base_dir)
    reference = CompiledRunner(weights, weights.stored()).forward([chunk], cpu_count())
    runner = CompiledRunner(again(), width)
    finding = compare(reference, runner.forward([chunk], cpu_count()), chunk.ids)
    runner.clear(0)
    write_finding(note, finding)
    log.info(f"serve_weights: {finding.told}", base=base_dir.name, width=width, **asdict(finding))
    return runner


def _text(base_dir: Path) -> SequenceChunk[AnyAdapter]:
    """The text that weights are compared on, with logits of every token."""
    ids = tuple(load_renderer(base_dir).encode(TEXT))
    return SequenceChunk(0, 0, ids, None, len(ids))


def _fp16_if_accurate(
    weights: BaseWeights, again: Callable[[], BaseWeights], base_dir: Path, note: Path
) -> tuple[Runner, Format]:
    """float16 if it reads a text as float32 does; the finding is kept."""
    chunk = _text(base_dir)
    reference = CompiledRunner(weights).forward([chunk], cpu_count())
    runner = CompiledRunner(again(), "float16")
    finding = compare(reference, runner.forward([chunk], cpu_count()), chunk.ids)
    runner.clear(0)
    write_finding(note, finding)
    log.debug(f"checked 16-bit weights: {finding.told}", base=base_dir.name, **asdict(finding))
    if finding.acceptable:
        return runner, "float16"
    del runner  # before the base is in memory once more
    return CompiledRunner(again()), "float32"
