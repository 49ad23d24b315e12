"""The catalogue of bases: every figure has a source, and every entry can be added."""

import re
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

from tunesmith.models.catalogue import FILE, Figure, catalogue, entry_of
from tunesmith.models.registry import BASE_NAME, HUB_ID, SHIPPED

PAGE = Path(__file__).resolve().parents[2] / "docs" / "bases.md"


def test_each_figure_names_an_address_and_each_entry_can_be_added() -> None:
    entries = catalogue()
    assert len(entries) >= 25
    assert not {base.name for base in SHIPPED} & set(entries)
    for name, entry in entries.items():
        assert BASE_NAME.fullmatch(name)
        assert HUB_ID.fullmatch(entry.hub)
        figures = [entry.parameters, entry.context, entry.licence, entry.rate]
        assert any(figures)
        for figure in filter(None, figures):
            address = urlsplit(figure.source)
            assert (address.scheme, bool(address.netloc), bool(address.path)) == ("https", True, True)


def test_figures_are_in_range() -> None:
    for entry in catalogue().values():
        assert entry.parameters is None or 0.01 < float(entry.parameters.value) < 1000
        assert entry.context is None or 2048 <= float(entry.context.value) <= 2_000_000
        assert entry.rate is None or 1e-5 <= float(entry.rate.value) <= 5e-3


def test_the_sources_in_the_file_are_those_that_are_used() -> None:
    book = tomllib.loads(FILE.read_text("utf-8"))
    used = {field["source"] for table in book["bases"].values() for field in table.values() if isinstance(field, dict)}
    assert used == set(book["sources"])


def test_a_repository_is_found_in_any_spelling_and_an_unsourced_figure_is_none() -> None:
    entry = entry_of("qwen/qwen3-0.6b")
    assert entry is not None
    assert (entry.name, entry.parameters and entry.parameters.value) == ("qwen3-0.6b", 0.6)
    assert isinstance(entry.rate, Figure)
    assert entry.rate.source.endswith("/recipes/configs/qwen3/0.6B_lora_single_device.yaml")
    nemo = entry_of("mistralai/Mistral-Nemo-Instruct-2407")
    assert nemo is not None
    assert (nemo.licence, nemo.rate) == (None, None)
    assert entry_of("nobody/nothing") is None


def test_the_page_has_the_figures_of_the_file() -> None:
    lines = PAGE.read_text("utf-8").splitlines()
    links = dict(line.split(": ", 1) for line in lines if re.match(r"\[\d+\]: ", line))
    rows = [line for line in lines if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == list(catalogue())
    for row, entry in zip(rows, catalogue().values(), strict=True):
        cells = [cell.strip() for cell in row[1:-1].split("|")]
        figures = (entry.parameters, entry.context, entry.licence, entry.rate)
        for cell, figure in zip(cells[2:], figures, strict=True):
            assert (links[f"[{cell.split('[')[-1]}"] == figure.source) if figure else cell == "", (entry.name, cell)
