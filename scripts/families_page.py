"""Writes docs/families.md by training and serving a tiny model of each family: `make families` (some minutes).

A family that does not do what transformers does stops it. A test does the same with a few families and compares rows.
"""

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from tests.families.trial import Cells, try_family  # noqa: E402
from tests.families.zoo import ZOO  # noqa: E402

from tunesmith.families.table import FAMILIES, WHOLES  # noqa: E402

TARGET = ROOT / "docs" / "families.md"
HEAD = """\
# Model families

<!-- Written by `make families` from tests/families/; edit scripts/families_page.py for the text. -->

Which bases are trained and served here, and by which path. Each row was made by training and serving a tiny random
model with the field values of the family's real configs; what it says was compared with transformers: the loss of a row
to 1e-5, each path's gradient with that of the padded path, logits with and without an adapter to 1e-4 in float32, and
greedy tokens exactly. The first path that a row names is taken; a run says in its events which one it took and why.

* **compiled**: our own compiled code, on a CPU in float32. Several adapters and lengths share a step.
* **tree**: transformers' modules; a prefix that rows share is computed once.
* **padded**: transformers' modules, a row beside the other. Layers with a running state (recurrent or convolutional)
  allow no other way.
* **one at a time**: served through transformers' modules, a sequence after the other.
* Where a family has sliding windows, the tiny model's are smaller than its rows.
* **LoRA reaches**: the share of the weights in the layers of the *tiny* model. A mixture of experts has less: experts
  are not trained, and routers neither. The events of a job name the figure of the base that it tunes.

Of a base that also takes images or sound, the text model is loaded, trained and served; its adapter has the names that
the whole base gives to the layers. Families that are not here are tried as transformers has them; what is known to fail
is refused by name when a base is added and when a job is created. Gemma 3n as it is published (`gemma3n`) is refused:
transformers loads it with its vision tower only, which is in another library. Its text model alone is tuned.

| family | `model_type` | trains | serves | LoRA reaches |
| --- | --- | --- | --- | --- |
"""


def row(name: str, cells: Cells) -> str:
    """The row of one tiny model."""
    kind = ZOO[name].model_type
    variant = name.removeprefix(kind).strip(" ()")
    title = FAMILIES[kind].title if kind in FAMILIES else WHOLES[kind]
    served = "compiled" if cells.serves_compiled else "one at a time"
    share = f"{100 * cells.share.adapted / cells.share.total:.0f} %" + (" (experts)" if cells.share.experts else "")
    label = f"{title} ({variant})" if variant else title
    return f"| {label} | `{kind}` | {', '.join(cells.trains)} | {served} | {share} |"


def main() -> None:
    """Writes the page."""
    torch.set_num_threads(1)
    rows = []
    for name, tiny in ZOO.items():
        with tempfile.TemporaryDirectory() as folder:
            rows.append(row(name, try_family(tiny, Path(folder))))
        sys.stdout.write(f"{rows[-1]}\n")
    TARGET.write_text(HEAD + "\n".join(rows) + "\n", "utf-8")


if __name__ == "__main__":
    main()
