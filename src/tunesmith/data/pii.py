"""Personal data and secrets in the texts of a file: counted, located, and never printed whole.

Every chunk's texts are searched as one string of bytes, first with patterns that start with a fixed byte (after digits
and capitals have been folded into one each), which the regex engine skips through at 2 GB/s; only where one hits is
the text looked at with care (`pii_kinds`).

Not covered: names, postal addresses, dates of birth, passport and social security numbers: no pattern tells them from
other words and figures. Telephone numbers without a country code are found in the forms of five countries
(`pii_kinds.NATIONAL`). Fields of rows that have errors are not searched.
"""

import re
from collections.abc import Iterator, Sequence

from ahocorasick_rs import BytesAhoCorasick, MatchKind

from tunesmith.data.batch import GAP, Batch
from tunesmith.data.findings import Finding, finding
from tunesmith.data.pii_kinds import KINDS, NAMES, Hit, hits_in
from tunesmith.data.result import ChunkResult, Partial
from tunesmith.jsonvalue import JsonObject

_FOLD = bytes(48 if 48 <= byte <= 57 else 65 if 65 <= byte <= 90 else byte for byte in range(256))

# Over-wide on purpose: what hits here is looked at with care, what does not is never looked at again.
_ON_FOLDED = (
    re.compile(rb"\+0[0 ().-]{6}"),  # phone, international
    re.compile(
        rb"000(?:[). -]{1,2}000[. -]0000"  # phone, North America
        rb"|[ /-]0000[ -]?000"  # phone, Britain, Germany; Chinese mobile in groups
        rb"|0[ -]?0000[ -]?000"  # card; Chinese mobile
        rb"|0[ /-]?000[ -]?000)"  # card in groups of 4-6-5; phone, Britain, Germany
    ),
    re.compile(rb"00([ .-])00\1(?:00\1){2}00"),  # phone, France
    re.compile(rb"AA00[ -]?[A0]{4}[ -]?[A0]{4}"),  # IBAN
    re.compile(rb"0\.0{1,3}\.0{1,3}\.0"),  # IPv4
    re.compile(rb":[0A-Fa-f]{0,4}:[0A-Fa-f]{0,4}:[0A-Fa-f]"),  # IPv6
)
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

    def look(self, data: bytes, batch: Batch, result: ChunkResult) -> Partial:
        rows: dict[str, set[int]] = {}
        for text, groups in suspects(batch.blob).items():
            line, path = batch.place(text)
            for hit in hits_in(batch.texts[text], groups):
                result.log.add(as_finding(hit, line, path))
                rows.setdefault(hit.kind, set()).add(line)
        return Partial({kind: len(lines) for kind, lines in rows.items()})

    def finish(self, partials: Sequence[Partial], whole: ChunkResult) -> tuple[list[Finding], JsonObject]:
        rows = dict.fromkeys(KINDS, 0)
        for partial in partials:
            for kind, count in partial.data.items():
                rows[kind] += int(str(count))
        return [], {"rows_with": {kind: count for kind, count in rows.items() if count}}


def suspects(blob: bytes) -> dict[int, set[str]]:
    """The number of each text that may hold something -> what is to be looked for in it; see `Batch.blob`."""
    found: dict[int, set[str]] = {}
    number = last = 0
    for place, group in sorted(set(_places(blob))):
        number += blob.count(GAP, last, place)
        last = place
        found.setdefault(number, set()).add(group)
    return found


def as_finding(hit: Hit, line: int, path: str) -> Finding:
    return finding(hit.kind, line, f"{NAMES[hit.kind]}: {hit.masked}.", path=path, value=hit.masked)


def _places(blob: bytes) -> Iterator[tuple[int, str]]:
    for match in _EMAIL.finditer(blob):
        yield match.start(), "emails"
    for _, start, _ in _SECRET_STARTS.find_matches_as_indexes(blob):
        yield start, "secrets"
    folded = blob.translate(_FOLD)
    for pattern in _ON_FOLDED:
        for match in pattern.finditer(folded):
            yield match.start(), "figures"
