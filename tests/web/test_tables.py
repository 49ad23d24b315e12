"""Tables on a narrow screen: nothing is out of reach."""

import re
from pathlib import Path

from starlette.testclient import TestClient
from tests.web.evaluated import finish_with_verdict

from tunesmith.settings import Settings
from tunesmith.store import Store
from tunesmith.web import language

TEMPLATES = Path(language.__file__).parent / "templates"
HEAD = re.compile(r'<th role="columnheader"[^>]*>(.*?)</th>', re.DOTALL)
CELL = re.compile(r'<t[dh] role="(?:cell|rowheader)"([^>]*)>')
TEXT = re.compile(r"""t\(["']([\w.]+)["']\)""")


def tables(kind: str) -> list[tuple[str, str]]:
    """The tables of a class in all templates, each with its file's name."""
    pattern = re.compile(rf'<table class="[^"]*\b{kind}\b[^"]*" role="table">.*?</table>', re.DOTALL)
    return [(file.name, one) for file in TEMPLATES.rglob("*.html") for one in pattern.findall(file.read_text("utf-8"))]


def test_every_box_that_scrolls_has_a_name_and_takes_the_focus() -> None:
    sources = "".join(file.read_text("utf-8") for file in TEMPLATES.rglob("*.html"))
    boxes = re.findall(r'<div class="scroll"[^>]*>', sources)
    assert len(boxes) > 15
    for box in boxes:
        assert 'tabindex="0"' in box, box
        assert 'role="group"' in box, box
        assert "aria-label" in box, box


def test_each_cell_of_a_stacked_row_names_its_column() -> None:
    found = [one for one in tables("stacked") if "criteria_head" not in one[1]]  # whose head is a macro
    assert len(found) == 6
    for name, table in found:
        heads = [TEXT.search(head) for head in HEAD.findall(table)]
        cells = [TEXT.search(cell) for cell in CELL.findall(table)]
        assert len(heads) == len(cells), name
        for head, cell in list(zip(heads, cells, strict=True))[1:]:
            assert head is not None
            assert (cell is None and "only-read" in table) or (cell is not None and cell[1] == head[1]), name


def test_each_cell_of_a_criterion_names_its_column(browser: TestClient, store: Store, settings: Settings) -> None:
    page = browser.get(f"/ui/evaluations/{finish_with_verdict(store, settings)}").text
    table = page.split('class="criteria stacked"')[1].split("</table>")[0]
    heads = re.findall(r'<th role="columnheader"[^>]*>(.*?)</th>', table)[1:]
    first = table.split("<tbody")[1].split("</tr>")[0]
    labels = re.findall(r'<td role="cell" data-label="([^"]*)"', first)
    assert len(heads) == len(labels) == 7
    assert [labels[place] == head for place, head in enumerate(heads)] == [place != 1 for place in range(7)]
    assert heads[1].startswith(labels[1])  # the head has the scale of the drawing, too
