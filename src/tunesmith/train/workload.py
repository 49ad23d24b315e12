"""What a trainer will compute for a file, for estimates.

Nothing here imports torch.
"""

import tempfile
from itertools import islice
from pathlib import Path

from tunesmith.estimate.speed import Workload
from tunesmith.render.renderer import Renderer
from tunesmith.train.core.examples import Sampler, read_examples
from tunesmith.train.core.packing import added_tokens, split
from tunesmith.train.core.plan import MOST_TOKENS
from tunesmith.train.protocol.spec import Method

SAMPLED_ROWS = 2_000  # rows; a second to render


def workload(
    path: Path, renderer: Renderer, *, method: Method, max_tokens: int | None, batch_size: int, epoch_tokens: int
) -> Workload:
    """What the trainer will compute for each epoch of a checked file.

    Order, packing and division are the trainer's own. The first `SAMPLED_ROWS` rows stand for the others;
    `epoch_tokens` is what an epoch trains.
    """
    with path.open("rb") as file, tempfile.NamedTemporaryFile(suffix=path.name) as first:
        first.writelines(islice(file, SAMPLED_ROWS))
        first.flush()
        examples = read_examples(Path(first.name), renderer, method, max_tokens)
    sampler = Sampler(examples, batch_size, n_epochs=1, seed=0)
    trained, computed, largest = 0, 0, 0
    for batch in sampler.batches():
        rows = batch.units
        for part in split(rows, MOST_TOKENS):
            before: tuple[int, ...] = ()
            tokens = 0
            for index in part:
                tokens += added_tokens(before, rows[index])
                before = rows[index][0].ids
            computed, largest = computed + tokens, max(largest, tokens)
        trained += batch.tokens
    return Workload(round(epoch_tokens * computed / trained), largest)
