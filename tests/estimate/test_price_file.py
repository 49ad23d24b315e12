"""A user's own prices: both formats, and a sentence for each fault."""

from pathlib import Path

import pytest

from tunesmith.errors import InvalidRequest
from tunesmith.estimate.price_file import MachineCost, read_price_book

TOML = """
date = 2027-01-01
source = "our contract"
[models."gpt-4o-mini-2024-07-18"]
training = 2
cached_input = 0.1
[models.house]
training_hour = 50
base_input = 0.5
base_output = 1
[machine]
watts = 200
dollars_per_kwh = 0.30
dollars_per_hour = 0.04
"""
JSON = """{"date": "2027-01-01", "source": "our contract",
 "models": {"gpt-4o-mini-2024-07-18": {"training": 2, "cached_input": 0.1},
            "house": {"training_hour": 50, "base_input": 0.5, "base_output": 1}},
 "machine": {"watts": 200, "dollars_per_kwh": 0.30, "dollars_per_hour": 0.04}}"""


@pytest.mark.parametrize(("name", "text"), [("own.toml", TOML), ("own.json", JSON)], ids=["toml", "json"])
def test_own_prices_and_machine_are_read(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    book = read_price_book(path)
    found = book.require("gpt-4o-mini")
    assert (found.training, found.cached_input, found.input) == (2.0, 0.1, None)  # what is left out is not known
    assert found.table == "our contract, 2027-01-01"
    house = book.require("house")
    assert house.training_hour == 50.0
    assert (base := house.base()) is not None
    assert (base.input, base.output, base.training_hour) == (0.5, 1.0, None)
    assert book.require("gpt-4o").table == "OpenAI, 2026-11-29"
    assert book.machine.hourly() == pytest.approx(0.04 + 0.2 * 0.30)


def test_no_file_leaves_openais_prices() -> None:
    book = read_price_book(None)
    assert book.require("gpt-4o-mini").training == 3.0
    assert book.machine.hourly() is None


def test_file_may_be_about_the_machine_alone(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text("[machine]\ndollars_per_hour = 2.5\n")
    book = read_price_book(path)
    assert book.own is None
    assert book.machine.hourly() == 2.5


@pytest.mark.parametrize(
    ("cost", "missing"),
    [(MachineCost(watts=100), "the price of a kilowatt hour"), (MachineCost(dollars_per_kwh=0.3), "machine's watts")],
    ids=["watts", "kwh"],
)
def test_half_of_the_power_says_what_is_missing(cost: MachineCost, missing: str) -> None:
    with pytest.raises(InvalidRequest, match=missing):
        cost.hourly()


FAULTS = {
    "no-number": ('[models.a]\ntraining = "3"', "models.a.training is '3'; give dollars for a million tokens as a"),
    "negative": ("[models.a]\ninput = -1", "models.a.input is -1; give dollars for a million tokens"),
    "infinite": ("[models.a]\ninput = inf", "models.a.input is inf; give dollars for a million tokens"),
    "truth": ("[models.a]\noutput = true", "models.a.output is True; give"),
    "by-hour": ("[models.a]\ntraining_hour = -1", "models.a.training_hour is -1; give dollars as a number"),
    "watts": ("[machine]\nwatts = -5", "machine.watts is -5; give watts as a number"),
    "unknown-price": (
        "[models.a]\ntrainig = 3",
        "models.a.trainig is not a key of a price file. Known are training",
    ),
    "unknown-top": ("model = 3", "model is not a key of a price file. Known are date, source, models, machine."),
    "unknown-machine": ("[machine]\nwatt = 3", "machine.watt is not a key of a price file. Known are dollars_per_hour"),
    "no-table": ("[models]\na = 3", "models.a is 3; it has to be a table. Known are training"),
    "models-list": ("models = [1]", "models is [1]; it has to be a table. Known are date"),
    "date": ("date = 3", "date is 3: input should be a valid string."),
    "nothing": ("", "has no prices: give it a table 'models', or 'machine'."),
    "no-toml": ("[models", "is not TOML: "),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_named_with_file_place_and_remedy(tmp_path: Path, fault: str) -> None:
    text, said = FAULTS[fault]
    path = tmp_path / "own.toml"
    path.write_text(text)
    with pytest.raises(InvalidRequest) as refused:
        read_price_book(path)
    assert said in refused.value.message
    assert str(path) in refused.value.message


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("own.yaml", b"a: 1", "neither .json nor .toml"),
        ("own.json", b"[1]", "the file is [1]; it has to be a table"),
        ("own.json", b"{", "is not JSON: line 1, column 2: it breaks off: the end is missing."),
        ("own.json", b'{\n"models" {}}', "is not JSON: line 2, column 10: a colon is missing after a key."),
        ("own.json", b"\xff\xfe", "is not JSON"),
        ("own.json", b"[" * 100_000, "is not JSON"),
        ("own.toml", b"\xff", "is not TOML"),
        ("own.json", b" " * 1_000_001, "more than 1,000,000 bytes"),
    ],
    ids=["yaml", "json-list", "json-cut", "json-colon", "json-utf16", "json-deep", "toml-bytes", "large"],
)
def test_file_that_is_no_price_file_is_refused(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InvalidRequest) as refused:
        read_price_book(path)
    assert said in refused.value.message


def test_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"cannot be read: No such file or directory\."):
        read_price_book(tmp_path / "none.toml")
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(InvalidRequest, match=r"cannot be read: Is a directory\."):
        read_price_book(tmp_path / "folder.toml")
