"""The rows of a file as tokens."""

from pathlib import Path

from tunesmith.errors import DataError
from tunesmith.render.renderer import Renderer
from tunesmith.rows.row import ChatRow, CompletionRow, PreferenceRow, read_rows
from tunesmith.train.core.batches import Batch, Example, Sampler
from tunesmith.train.core.packing import TokenRow
from tunesmith.train.protocol.spec import Method

__all__ = ["Batch", "Example", "Sampler", "read_examples"]


def read_examples(path: Path, renderer: Renderer, method: Method, max_tokens: int | None) -> list[Example]:
    """Reads and renders a file.

    Raises DataError naming file and line when a row cannot be trained with `method`.
    """
    examples = []
    known: dict[int, int] = {}  # one object for each token instead of each occurrence: 8 bytes instead of 36
    for line, row in read_rows(path):
        try:
            match row:
                case ChatRow() | CompletionRow() if method == "supervised":
                    rendered = renderer.examples(row, max_tokens)
                    rows = tuple(
                        TokenRow(tuple(map(known.setdefault, one.ids, one.ids)), tuple(one.weights), line)
                        for one in rendered.examples
                    )
                    examples.append(Example(line, rows, rendered.tokens))
                case PreferenceRow() if method == "dpo":
                    examples.append(_pair(row, renderer, line, max_tokens))
                case _:
                    raise DataError(f"a {type(row).__name__} cannot be trained with the method {method!r}.")
        except DataError as error:
            raise DataError(f"Line {line} of {path.name}: {error.message}", param="training_file") from error
    if not examples:
        raise DataError(f"{path.name} has no rows.", param="training_file")
    return examples


def _pair(row: PreferenceRow, renderer: Renderer, line: int, max_tokens: int | None) -> Example:
    pair = renderer.pair(row, max_tokens)
    prompt, silent = tuple(pair.prompt_ids), (0.0,) * len(pair.prompt_ids)
    rows = tuple(
        TokenRow((*prompt, *answer.ids), (*silent, *answer.weights), line)
        for answer in (pair.preferred, pair.non_preferred)
    )
    return Example(line, rows, len(prompt) + len(pair.preferred.ids) + len(pair.non_preferred.ids), is_pair=True)
