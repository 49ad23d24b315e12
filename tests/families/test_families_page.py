"""docs/families.md says what the families do: a few of them, others each day, are trained and served again.

All of them: `make families`. The day's choice again: FAMILIES_SEED=<the number in the message>.
"""

import datetime
import importlib.util
import os
import random
from pathlib import Path
from types import ModuleType

import torch
from tests.families.trial import try_family
from tests.families.zoo import ZOO

from tunesmith.families.table import FAMILIES, STAND_INS, WHOLES

FEW = 5
SCRIPT = Path(__file__).parents[2] / "scripts" / "families_page.py"


def page_script() -> ModuleType:
    """The script that writes the page."""
    spec = importlib.util.spec_from_file_location("families_page", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def test_a_handful_of_families_does_what_their_rows_say(tmp_path: Path) -> None:
    seed = int(os.environ.get("FAMILIES_SEED", datetime.datetime.now(datetime.UTC).date().toordinal()))
    script = page_script()
    rows = script.TARGET.read_text("utf-8").removeprefix(script.HEAD).splitlines()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for name in random.Random(seed).sample(list(ZOO), FEW):
        folder = tmp_path / name.replace(" ", "-")
        folder.mkdir()
        assert script.row(name, try_family(ZOO[name], folder)) in rows, f"{name} (FAMILIES_SEED={seed})"
    torch.set_num_threads(threads)


def test_the_page_has_every_family_of_the_table_and_the_table_every_family_that_was_tried() -> None:
    script = page_script()
    page = script.TARGET.read_text("utf-8")
    assert page.startswith(script.HEAD)
    assert len(page.removeprefix(script.HEAD).splitlines()) == len(ZOO)
    tried = {tiny.model_type for tiny in ZOO.values()}
    assert tried == {*FAMILIES, *WHOLES}
    parts = {tiny.text_type for tiny in ZOO.values() if tiny.text_type}
    assert parts <= {*FAMILIES, *STAND_INS}
