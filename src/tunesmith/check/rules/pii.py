"""Personal data and secrets in texts: counted, located, never printed in full.

Every chunk's texts are searched as one string of bytes, first with patterns that start with a fixed byte (after digits
and capitals have been folded into one each), which the regex engine skips through at 2 GB/s; only where one hits is
the text looked at with care (`pii_kinds`).

Not covered: names, postal addresses, dates of birth, passport and social security numbers: no pattern tells them from
other words and figures. Telephone numbers without a country code are found in the forms of five countries
(`pii_kinds.NATIONAL`). Fields of rows that have errors are not searched.
"""

import re
from collections.abc import Iterator, Sequence

import numpy as np
from ahocorasick_rs import BytesAhoCorasick, MatchKind
from numpy.typing import NDArray

from tunesmith.check.rules.pii_kinds import KINDS, NAMES, Hit, hits_in
from tunesmith.check.scan.batch import GAP, Batch
from tunesmith.check.scan.result import ChunkResult, Partial
from tunesmith.jsonvalue import JsonObject
from tunesmith.rows.findings import Finding, finding

_FOLD = bytes(48 if 48 <= byte <= 57 else 65 if 65 <= byte <= 90 else byte for byte in range(256))

# Over-wide on purpose: what hits here is looked at with care, what does not is never looked at again.
_ON_FOLDED = {
    re.compile(rb"\+0[0 ().-]{6}"): ("phones",),
    re.compile(rb"000[). -]{1,2}000[. -]0000"): ("US",),
    # Chinese mobile numbers in groups, cards whole and in groups of 4-6-5
    re.compile(rb"000(?:[ /-]0000[ -]?000|0[ -]?0000[ -]?000|0[ /-]?000[ -]?000)"): ("cards", "CN", "GB", "DE"),
    re.compile(rb"00([ .-])00\1(?:00\1){2}00"): ("FR",),
    re.compile(rb"AA00[ -]?[A0]{4}[ -]?[A0]{4}"): ("ibans",),
    re.compile(rb"0\.0{1,3}\.0{1,3}\.0"): ("ips",),
    re.compile(rb":[0A-Fa-f]{0,4}:[0A-Fa-f]{0,4}:[0A-Fa-f]"): ("ips",),
}
_EMAIL = re.compile(rb"@[A-Za-z0-9-]+\.[A-Za-z]")
_SECRET_STARTS = BytesAhoCorasick(
    [
        b"sk-", b"sk_live_", b"rk_live_", b"AKIA", b"ASIA", b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"github_pat_",
        b"glpat-", b"xoxb-", b"xoxp-", b"xoxa-", b"xoxr-", b"xoxs-", b"xapp-", b"AIza", b"ya29.", b"hf_", b"npm_",
        b"pypi-AgE", b"eyJ", b"-----BEGIN ", b"SG.", b"dop_v1_", b"AccountKey=",
    ],
    matchkind=MatchKind.LeftmostFirst,
)  # fmt: skip


class PersonalData:
    """The analyser `personal_data`."""

    def analyse(self, data: bytes, batch: Batch, result: ChunkResult) -> Partial:
        """A warning for each hit, and the rows with hits of each kind."""
        rows: dict[str, set[int]] = {}
        for text, hits in self._hits(batch):
            line, path = batch.place(text)
            for hit in hits:
                result.log.add(as_finding(hit, line, path))
                rows.setdefault(hit.kind, set()).add(line)
        return Partial({kind: len(lines) for kind, lines in rows.items()})

    def _hits(self, batch: Batch) -> list[tuple[int, list[Hit]]]:
        """(number of the text, what is in it), by number."""
        found: list[tuple[int, list[Hit]]] = []
        for number, groups in suspects(batch.blob).items():
            texts = batch.everywhere(number)
            if hits := hits_in(batch.texts[texts[0]], groups):
                found += [(text, hits) for text in texts]
        return sorted(found, key=lambda one: one[0])

    def finish(self, partials: Sequence[Partial], whole: ChunkResult) -> tuple[list[Finding], JsonObject]:
        """How many rows have hits of each kind."""
        rows = dict.fromkeys(KINDS, 0)
        for partial in partials:
            for kind, count in partial.data.items():
                rows[kind] += int(str(count))
        return [], {"rows_with": {kind: count for kind, count in rows.items() if count}}


def suspects(blob: bytes) -> dict[int, set[str]]:
    """The texts that may hold something, and what to search each of them for.

    Texts are named by their number in `Batch.blob`.
    """
    codes = np.frombuffer(blob, np.uint8)
    ends = np.flatnonzero(codes == GAP[0])
    found: dict[int, set[str]] = {}
    for group, places in (("emails", _emails(blob)), ("secrets", _secrets(blob))):
        for number in np.searchsorted(ends, np.asarray(places, np.int64)).tolist():
            found.setdefault(number, set()).add(group)
    for number, group in _figures(blob, codes, ends):
        found.setdefault(number, set()).add(group)
    return dict(sorted(found.items()))


def as_finding(hit: Hit, line: int, path: str) -> Finding:
    """The warning about a hit; it shows the masked value only."""
    return finding(hit.kind, line, f"{NAMES[hit.kind]}: {hit.masked}.", path=path, value=hit.masked)


def _emails(blob: bytes) -> list[int]:
    return [match.start() for match in _EMAIL.finditer(blob)]


def _secrets(blob: bytes) -> list[int]:
    return [start for _, start, _ in _SECRET_STARTS.find_matches_as_indexes(blob)]


def _figures(blob: bytes, codes: NDArray[np.uint8], ends: NDArray[np.int64]) -> Iterator[tuple[int, str]]:
    """(number of a text, group) for each pattern that hits; only texts with figures close together are searched."""
    numbers = np.unique(np.searchsorted(ends, _close_figures(codes)))
    if not numbers.size:
        return
    starts, stops = np.append(0, ends + 1)[numbers], np.append(ends, len(blob))[numbers]
    texts = [blob[start:stop] for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)]
    folded = GAP.join(texts).translate(_FOLD)
    within = np.cumsum([len(text) + 1 for text in texts])
    for pattern, groups in _ON_FOLDED.items():
        hits = [match.start() for match in pattern.finditer(folded)]
        for number in np.unique(numbers[np.searchsorted(within, hits, side="right")]).tolist():
            yield from ((number, group) for group in groups)


def _close_figures(codes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Where there is a sign of a telephone number, card, IBAN or IP address; costs a tenth of searching for them."""
    digits = np.flatnonzero(codes - np.uint8(ord("0")) < 10)
    seven = digits[:-6][digits[6:] - digits[:-6] <= 18]  # of a phone number or card: at most two signs between them
    pairs = digits[:-1][(np.diff(digits) == 2) & (codes[digits[:-1] + 1] == ord("."))]
    dotted = pairs[:-2][pairs[2:] - pairs[:-2] <= 8]  # three points between figures of at most three digits: IPv4
    iban = digits[digits > 1]
    iban = iban[codes[iban - 1] - np.uint8(ord("A")) < 26]
    iban = iban[codes[iban - 2] - np.uint8(ord("A")) < 26]
    colons = np.flatnonzero(codes == ord(":"))
    colons = colons[:-1][np.diff(colons) <= 5]  # IPv6
    return np.concatenate((seven, dotted, iban, colons))
