"""Whether a base may be served with 16-bit weights, measured on the base itself.

What is stored in 16 bits is served as it is, and is not looked at here. If every weight is a float16 number, rounding
changes nothing. Otherwise the rounded weights and those of full width read the same text: the rounded ones must predict
it as well and choose the same next tokens. The finding is kept on disk, so that only the first load of a base takes the
time.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy
from numpy import float32
from numpy.typing import NDArray

from tunesmith.families.array_panels import CHUNK, Weights, Width, widen
from tunesmith.kernels.vectors import HAS_HALF
from tunesmith.system.checked_json import read_checked, write_checked
from tunesmith.system.pages import evict_pages

LARGEST = float(numpy.finfo(numpy.float16).max)
LEAST_AGREEMENT = 0.99  # share of positions with the same likeliest next token
MOST_SURPRISE = 0.001  # nats per token by which the text may become less or more likely: 0.1 % of perplexity
WRONG_AGREEMENT, WRONG_SURPRISE = 0.8, 0.1  # beyond which it is no rounding: a processor or code that errs
TEXT = """The keeper of the lighthouse wrote to the harbour office on 14 March 1897: "Two lamps are broken; please send
glass, oil (40 litres) and, if it can be had, a new clock." Nobody answered. In May he wrote again, and in June.
## Steps
1. Heat 250 ml of milk to 60 °C, then stir in the flour.
2. Wait ten minutes. Is it thick? If not, add 15 g more.
def mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0
{"city": "Wuhan", "unit": "celsius", "days": [3, 7, 14], "rain": false}
Das Wetter bleibt morgen trocken, am Abend ziehen Wolken auf. ¿Cuánto cuesta el billete de ida y vuelta?
今年武汉的冬天不冷,就是风有点大,出门记得戴帽子。 Q: What is 12 x 12? A: 144, because 12 times 12 is 144.
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """How the rounded weights compare with those of full width on one text."""

    agreement: float  # share of positions with the same likeliest token
    surprise: float  # change of the mean negative log-likelihood, nats per token

    @property
    def acceptable(self) -> bool:
        """True if the base may be served with the rounded weights."""
        return self.agreement >= LEAST_AGREEMENT and abs(self.surprise) <= MOST_SURPRISE

    @property
    def is_wrong(self) -> bool:
        """True where the difference is more than rounding makes."""
        return not (self.agreement >= WRONG_AGREEMENT and abs(self.surprise) <= WRONG_SURPRISE)  # also of NaN

    @property
    def told(self) -> str:
        """The verdict, for a log."""
        if self.acceptable:
            return "the rounded weights read a text as those of full width do"
        return "the rounded weights read a text otherwise than those of full width: answers may differ"


def is_exact_in_fp16(weights: Iterable[Weights]) -> bool:
    """True if rounding to float16 changes no weight of any linear layer."""
    return all(fits_fp16(weight) for weight in _one_by_one(weights))


def can_use_fp16(weights: Iterable[Weights]) -> bool:
    """True if this processor multiplies in float16 and no weight is beyond its range."""
    return HAS_HALF and not any(overflows_fp16(weight) for weight in _one_by_one(weights))


def compare(reference_TV: NDArray[float32], rounded_TV: NDArray[float32], ids: Sequence[int]) -> Finding:
    """Compares two logits of the same `ids`, each position's for the next token."""
    agreement = float((reference_TV.argmax(-1) == rounded_TV.argmax(-1)).mean())
    losses = [_loss(logits[:-1].astype(numpy.float64), ids[1:]) for logits in (reference_TV, rounded_TV)]
    return Finding(agreement, losses[1] - losses[0])


def _loss(logits_TV: NDArray[numpy.float64], targets: Sequence[int]) -> float:
    """The mean negative log-likelihood, in nats."""
    shifted = logits_TV - logits_TV.max(-1, keepdims=True)
    chosen = shifted[range(len(targets)), [*targets]]
    return float((numpy.log(numpy.exp(shifted).sum(-1)) - chosen).mean())


def read_width(path: Path) -> Width | None:
    """The number format that follows from the finding in `path`; None without one."""
    found = read_finding(path)
    if found is None:
        return None
    return "float16" if found.acceptable else "float32"


def read_finding(path: Path) -> Finding | None:
    """The finding in `path`; None without one."""
    try:
        kept = read_checked(path)
        return Finding(**kept) if isinstance(kept, dict) else None  # type: ignore[arg-type]  # of our own making
    except (OSError, TypeError):
        return None


def write_finding(path: Path, finding: Finding) -> None:
    """Keeps a finding for the next load of the base.

    Without room on the disk, that load finds it again.
    """
    with suppress(OSError):
        write_checked(path, asdict(finding))


def fits_fp16(weight: Weights) -> bool:
    """True if every value is a float16 number, as most of a bfloat16 model's are."""
    if weight.dtype == numpy.float16:
        return True
    with numpy.errstate(over="ignore"):
        return all(numpy.array_equal(part.astype(numpy.float16), part) for part in _parts(weight))


def overflows_fp16(weight: Weights) -> bool:
    """True if a value is beyond float16's range."""
    return any(max(part.max(), -part.min()) > LARGEST for part in _parts(weight))


def _one_by_one(weights: Iterable[Weights]) -> Iterator[Weights]:
    """Each of them alone in memory where they are of a file."""
    for weight in weights:
        yield weight
        evict_pages(weight)


def _parts(weight: Weights) -> Iterator[NDArray[float32]]:
    """The numbers in float32, a few at a time."""
    numbers = weight.reshape(-1)
    return (widen(numbers[first : first + CHUNK]) for first in range(0, len(numbers), CHUNK))
