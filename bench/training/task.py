"""What `bench/train.py` trains: a few steps of a file, the same for every engine, and what they need at the least."""

from dataclasses import dataclass, replace
from pathlib import Path

from tunesmith.families.panels import DTYPES
from tunesmith.models.adapters import AdapterManifest, write_adapter
from tunesmith.models.facts import stored_width
from tunesmith.models.weights import load_model
from tunesmith.render.renderer import load_renderer
from tunesmith.settings import TrainingOptions
from tunesmith.train.adapters.lora import attach
from tunesmith.train.core.examples import Batch, Sampler, read_examples
from tunesmith.train.core.packing import pack
from tunesmith.train.paths.flops import Work
from tunesmith.train.paths.scoring import Computed
from tunesmith.train.protocol.spec import Method, TrainSpec

RANK, ALPHA, BETA = 16, 32.0, 0.1
OPTIONS = TrainingOptions(
    base_learning_rate=2e-4, lora_rank=RANK, lora_alpha=ALPHA, schedule="constant", warmup_ratio=0.0
)
WHOLE_ROWS = 20  # a file of so few rows is a whole job: batch 1, ten epochs
LONGEST = 600  # longer rows are left out of the steps, so that the peers' steps end within a minute


@dataclass(frozen=True, slots=True)
class Task:
    """One dataset, and what of it is trained."""

    name: str
    spec: TrainSpec
    batches: list[Batch]
    flops: list[float]  # each batch's `needed_flops`

    @property
    def folder(self) -> Path:
        return self.spec.training_file.parent

    @property
    def whole_job(self) -> bool:
        return self.spec.n_epochs > 1

    @property
    def tokens(self) -> list[int]:
        """Of each step: the real tokens of its rows, a pair's prompt in both of them."""
        return [sum(len(row.ids) for example in batch.examples for row in example.rows) for batch in self.batches]

    @property
    def distinct(self) -> int:
        return sum(pack([row for example in batch.examples for row in example.rows]).length for batch in self.batches)


def make_task(file: Path, base_dir: Path, scratch: Path, steps: int, batch_size: int | None, work: Work) -> Task:
    """Writes the rows of the measured steps into a folder of `scratch`, so that every engine stops after these."""
    lines = file.read_text("utf-8").splitlines()
    is_job = len(lines) <= WHOLE_ROWS
    folder = scratch / file.stem
    folder.mkdir(parents=True)
    spec = _spec(file, base_dir, folder / "tunesmith", batch_size, is_job)
    renderer = load_renderer(base_dir)
    examples = read_examples(file, renderer, spec.method, None)
    if not is_job:
        examples = [example for example in examples if max(len(row.ids) for row in example.rows) <= LONGEST]
    order = Sampler(examples, spec.batch_size, 1, spec.seed).order(0)
    chosen = sorted(order) if is_job else order[: steps * spec.batch_size]
    part = folder / "rows.jsonl"
    part.write_text("\n".join(lines[examples[i].line - 1] for i in chosen) + "\n", "utf-8")
    spec = replace(spec, training_file=part)
    rows = read_examples(part, renderer, spec.method, None)
    batches = [*Sampler(rows, spec.batch_size, spec.n_epochs, spec.seed).batches()]
    return Task(file.stem, spec, batches, [needed_flops(batch, work) for batch in batches])


def _spec(file: Path, base_dir: Path, output_dir: Path, batch_size: int | None, is_job: bool) -> TrainSpec:
    method: Method = "dpo" if '"preferred_output"' in file.read_text("utf-8").partition("\n")[0] else "supervised"
    return TrainSpec(
        job_id="bench",
        base_name="bench",
        base_dir=base_dir,
        training_file=file,
        output_dir=output_dir,
        method=method,
        beta=BETA if method == "dpo" else None,
        n_epochs=10 if is_job else 1,
        batch_size=batch_size or _batch_size(file, method, is_job),
        learning_rate_multiplier=1.0,
        options=OPTIONS,
        keep_checkpoints=10,
        checkpoint_seconds=0,
    )


def _batch_size(file: Path, method: str, is_job: bool) -> int:
    """Rows of a step: as many as a small job has, fewer where they are long. A pair is two rows."""
    if is_job:
        return 1
    if method == "dpo":
        return 2
    return 4 if '"tools"' in file.read_text("utf-8")[:20_000] else 8


def needed_flops(batch: Batch, work: Work) -> float:
    packed = pack([row for example in batch.examples for row in example.rows])
    visible = sum(packed.positions) + packed.length
    return work.flops(Computed(packed.length, len(packed.learned), visible))


def starting_adapter(base_dir: Path, folder: Path) -> tuple[Path, Work]:
    """The values that Tunesmith's adapter begins with, for the peers to begin with; what a step of it costs."""
    model = load_model(base_dir, DTYPES[stored_width(base_dir)])  # views of the file, whatever its size
    adapter = attach(model, OPTIONS, 0, model.get_output_embeddings())
    write_adapter(folder, adapter.tensors(), AdapterManifest("bench", "", "", RANK, ALPHA, adapter.target_modules, 0))
    return folder, Work.of(model, adapter)
