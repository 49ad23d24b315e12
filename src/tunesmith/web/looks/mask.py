"""What one row teaches a base, token by token."""

from functools import lru_cache
from pathlib import Path

from tunesmith.check.report.mask_preview import Preview, preview_line, visible
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.render.renderer import Renderer, load_renderer

MOST_TOKENS = 3000  # shown of a rendering


def mask(values: JsonObject) -> JsonObject:
    """The renderings of the row in the line `line` for the base at `base`.

    There are none where the line has no row.
    """
    base = Path(str(values["base"]))
    renderer = _renderer(base, (base / "tokenizer.json").stat().st_mtime_ns)
    limit = None if values["max_tokens"] is None else int(str(values["max_tokens"]))
    found = preview_line(Path(str(values["path"])), renderer, int(str(values["line"])), limit)
    return {"previews": [_shown(one) for one in found]}


def _shown(preview: Preview) -> JsonObject:
    spans: list[JsonValue] = []
    left = MOST_TOKENS
    for span in preview.spans:
        pieces: list[JsonValue] = [visible(piece) for piece in span.pieces[:left]]
        left -= len(pieces)
        if pieces:
            spans.append({"learned": span.learned, "pieces": pieces})
    tokens = sum(len(span.pieces) for span in preview.spans)
    learned = sum(len(span.pieces) for span in preview.spans if span.learned)
    return {
        "title": preview.title,
        "note": preview.note,
        "spans": spans,
        "tokens": tokens,
        "learned": learned,
        "hidden": max(0, tokens - MOST_TOKENS),
        "cut": preview.cut_tokens,
    }


@lru_cache(maxsize=2)  # reading a tokenizer takes half a second; a changed file is read again
def _renderer(base: Path, _modified: int) -> Renderer:
    return load_renderer(base)
