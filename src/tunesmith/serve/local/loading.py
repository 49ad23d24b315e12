"""A base on disk -> a runner in memory, with weights as narrow as the base bears."""

from pathlib import Path

import structlog
import torch
from transformers import PreTrainedModel

from tunesmith import __version__
from tunesmith.errors import InvalidRequest
from tunesmith.families.panels import Width
from tunesmith.kernels.compiler import is_cached, precompile
from tunesmith.kernels.forward import serving_step
from tunesmith.models.directory import fingerprint
from tunesmith.models.weights import load_model
from tunesmith.render.renderer import load_renderer
from tunesmith.serve.engine.scheduler import Feed
from tunesmith.serve.local.fp16_check import TEXT, compare, keep, known_width, lossless, possible
from tunesmith.serve.local.llama_runner import CompiledRunner, supports
from tunesmith.serve.local.runner import Runner, TransformersRunner
from tunesmith.settings import Settings

log = structlog.get_logger(__name__)


def load_runner(base_dir: Path, settings: Settings) -> tuple[Runner, Width]:
    """Takes seconds. Raises InvalidRequest when the setting asks for weights that this base or machine cannot have."""
    if not is_cached(serving_step):
        log.info("compiling for this processor, once; it takes some 20 seconds")
        precompile("serving", serving_step)
    model = load_model(base_dir, torch.float32)
    wanted = settings.serve_weights
    if wanted == "float32" or not supports(model.config):
        _refuse(wanted, supports(model.config), "is of a family that only float32 serves")
        return _float32(model), "float32"
    _refuse(wanted, possible(model), "cannot be multiplied in float16 on this machine, or is out of its range")
    if not possible(model):
        return _float32(model), "float32"
    if wanted == "float16" or lossless(model):
        return CompiledRunner(model, "float16"), "float16"
    return _tried(model, base_dir, settings)


def _refuse(wanted: str, can: bool, why: str) -> None:
    if wanted == "float16" and not can:
        raise InvalidRequest(f"Setting serve_weights: this base {why}. Set it to 'auto' or 'float32'.")


def _float32(model: PreTrainedModel) -> Runner:
    return CompiledRunner(model) if supports(model.config) else TransformersRunner(model)


def _tried(model: PreTrainedModel, base_dir: Path, settings: Settings) -> tuple[Runner, Width]:
    """float16 if a text shows that nothing is lost by it; what it showed is kept in the data directory."""
    note = settings.paths.root / "serve" / f"{fingerprint(base_dir)}-{__version__}.json"
    width = known_width(note)
    if width is not None:
        return CompiledRunner(model, width), width
    ids = load_renderer(base_dir).encode(TEXT)
    with torch.inference_mode():
        plain = model(torch.tensor([ids])).logits[0].float()
        runner = CompiledRunner(model, "float16")
        finding = compare(plain, runner.forward([Feed(0, 0, tuple(ids), None, len(ids))]), ids)
        runner.release(0)
    keep(note, finding)
    log.info("weights in 16 bits tried", base=base_dir.name, **finding.report())
    if finding.acceptable:
        return runner, "float16"
    return CompiledRunner(load_model(base_dir, torch.float32)), "float32"
