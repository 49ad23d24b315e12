"""docs/families.md says what the families do: a few of them, others each day, are trained and served again.

All of them: `make families`. The day's choice again: FAMILIES_SEED=<the number in the message>.
"""

import datetime
import os
import random
from pathlib import Path

import torch
from scripts.families_page import HEAD, TARGET, row
from tests.families.trial import try_family
from tests.families.zoo import ZOO

from tunesmith.families.table import FAMILIES, STAND_INS, WHOLES

FEW = 5


def test_a_handful_of_families_does_what_their_rows_say(tmp_path: Path) -> None:
    seed = int(os.environ.get("FAMILIES_SEED", datetime.datetime.now(datetime.UTC).date().toordinal()))
    rows = TARGET.read_text("utf-8").removeprefix(HEAD).splitlines()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for name in random.Random(seed).sample(list(ZOO), FEW):
        folder = tmp_path / name.replace(" ", "-")
        folder.mkdir()
        assert row(name, try_family(ZOO[name], folder)) in rows, f"{name} (FAMILIES_SEED={seed})"
    torch.set_num_threads(threads)


def test_the_page_has_every_family_of_the_table_and_the_table_every_family_that_was_tried() -> None:
    page = TARGET.read_text("utf-8")
    assert page.startswith(HEAD)
    assert len(page.removeprefix(HEAD).splitlines()) == len(ZOO)
    tried = {tiny.model_type for tiny in ZOO.values()}
    assert tried == {*FAMILIES, *WHOLES}
    parts = {tiny.text_type for tiny in ZOO.values() if tiny.text_type}
    assert parts <= {*FAMILIES, *STAND_INS}
