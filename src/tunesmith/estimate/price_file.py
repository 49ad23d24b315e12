"""A user's own prices and machine, from a JSON or TOML file.

date = "2027-01-01"
source = "our contract"

[models."gpt-4o-mini-2024-07-18"]   # dollars for a million tokens; what is left out is not known
training = 3.00
input = 0.30
cached_input = 0.15
output = 1.20
batch_input = 0.15
batch_output = 0.60
training_hour = 100.00              # reinforcement: dollars for an hour of training
base_input = 0.15                   # of the model before it is tuned
base_output = 0.60

[machine]                           # dollars an hour, or watts with dollars for a kilowatt hour, or both
dollars_per_hour = 0.50
watts = 120
dollars_per_kwh = 0.30
"""

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from tunesmith.errors import InvalidRequest
from tunesmith.estimate.prices import Price, PriceTable, price_of, require_price
from tunesmith.rows.json_faults import document_fault

MAX_BYTES = 1_000_000
_Amount: TypeAlias = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class MachineCost:
    """What the user's own machine costs: dollars an hour, electricity, or both."""

    dollars_per_hour: float | None = None
    watts: float | None = None
    dollars_per_kwh: float | None = None

    def hourly(self) -> float | None:
        """Dollars an hour, with electricity; None where nothing is said of the machine.

        Raises InvalidRequest, with the key that is missing as param, where only one of watts and the price of
        electricity is known.
        """
        if (self.watts is None) != (self.dollars_per_kwh is None):
            missing = "dollars_per_kwh" if self.dollars_per_kwh is None else "watts"
            words = {"dollars_per_kwh": "the price of a kilowatt hour", "watts": "the machine's watts"}
            raise InvalidRequest(f"The cost of electricity needs {words[missing]} too", param=f"machine.{missing}")
        if self.watts is None or self.dollars_per_kwh is None:
            return self.dollars_per_hour
        return (self.dollars_per_hour or 0.0) + self.watts / 1000 * self.dollars_per_kwh


@dataclass(frozen=True, slots=True)
class PriceBook:
    """All prices there are: the user's own before OpenAI's, and the user's machine."""

    own: PriceTable | None = None
    machine: MachineCost = MachineCost()
    file: Path | None = None  # the user's

    def find(self, model: str) -> Price | None:
        """The price of a model, as `price_of` finds it."""
        return price_of(model, self.own)

    def require(self, model: str) -> Price:
        """The price of a model; InvalidRequest with the known names if there is none."""
        return require_price(model, self.own)


def read_price_book(path: Path | None) -> PriceBook:
    """The prices with those of the file at `path`; None: only the ones that ship.

    Raises InvalidRequest that names the file, the place in it, and what belongs there.
    """
    if path is None:
        return PriceBook()
    value = _parsed(path)
    try:
        found = _PriceFile.model_validate(value)
    except ValidationError as error:
        raise InvalidRequest(f"{path}: {_sentence(error.errors()[0])}", param="price_file") from None
    if not found.models and found.machine is None:
        raise InvalidRequest(f"{path} has no prices: give it a table 'models', or 'machine'.", param="price_file")
    prices = tuple(Price(name, **one.model_dump()) for name, one in found.models.items())
    table = PriceTable(found.source or path.name, found.date, prices) if prices else None
    machine = MachineCost(**found.machine.model_dump()) if found.machine else MachineCost()
    return PriceBook(table, machine, path)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _ModelPrices(_Strict):
    training: _Amount | None = None
    input: _Amount | None = None
    cached_input: _Amount | None = None
    output: _Amount | None = None
    batch_input: _Amount | None = None
    batch_output: _Amount | None = None
    training_hour: _Amount | None = None
    base_input: _Amount | None = None
    base_output: _Amount | None = None


class _Machine(_Strict):
    dollars_per_hour: _Amount | None = None
    watts: _Amount | None = None
    dollars_per_kwh: _Amount | None = None


class _PriceFile(_Strict):
    date: str = Field("", max_length=40)
    source: str = Field("", max_length=200)
    models: dict[Annotated[str, Field(min_length=1, max_length=200)], _ModelPrices] = Field(default_factory=dict)
    machine: _Machine | None = None


def _parsed(path: Path) -> object:
    suffix = path.suffix.lower()
    if suffix not in (".json", ".toml"):
        raise InvalidRequest(f"{path} is neither .json nor .toml; name the price file so.", param="price_file")
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise InvalidRequest(f"{path} has more than {MAX_BYTES:,} bytes; is it a price file?", param="price_file")
        value: object = json.loads(text) if suffix == ".json" else _toml(text)
    except OSError as error:
        raise InvalidRequest(f"The price file {path} cannot be read: {error.strerror}.", param="price_file") from None
    except json.JSONDecodeError as error:
        where = document_fault(error.doc, error)
        raise InvalidRequest(f"The price file {path} is not JSON: {where}.", param="price_file") from None
    except (ValueError, RecursionError) as error:  # of TOML and UTF-8 alike
        kind = suffix.removeprefix(".").upper()
        raise InvalidRequest(f"The price file {path} is not {kind}: {error}.", param="price_file") from None
    return value


def _toml(text: bytes) -> object:
    """TOML's dates are values of their own; here a date is text, with quotes or without."""
    value = tomllib.loads(text.decode("utf-8"))
    date = value.get("date")
    return value if date is None or isinstance(date, bool | int | float | list | dict) else {**value, "date": str(date)}


def _sentence(error: ErrorDetails) -> str:
    """What is wrong, where, and what belongs there."""
    place = ".".join(str(part) for part in error["loc"]) or "the file"
    if error["type"] == "extra_forbidden":
        return f"{place} is not a key of a price file. {_known(error['loc'])}"
    if error["type"] in ("model_type", "model_attributes_type", "dict_type"):
        return f"{place} is {_shown(error['input'])}; it has to be a table. {_known(error['loc'])}"
    if place.startswith(("models.", "machine.")):
        unit = "watts" if place == "machine.watts" else "dollars for a million tokens"
        unit = "dollars" if error["loc"][-1] in _DOLLARS else unit
        return f"{place} is {_shown(error['input'])}; give {unit} as a number from 0, or leave it out."
    return f"{place} is {_shown(error['input'])}: {error['msg'][:1].lower()}{error['msg'][1:]}."


_DOLLARS = ("training_hour", "dollars_per_hour", "dollars_per_kwh")


def _known(place: tuple[int | str, ...]) -> str:
    owner: type[_Strict] = _PriceFile
    if place and place[0] == "models" and len(place) > 1:
        owner = _ModelPrices
    elif place and place[0] == "machine":
        owner = _Machine
    return f"Known are {', '.join(owner.model_fields)}."


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
