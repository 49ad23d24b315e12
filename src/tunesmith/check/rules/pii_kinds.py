"""The kinds of personal data: a pattern for each, and a proof of the match.

E-mail addresses, telephone numbers, cards, IBANs, IP addresses and secrets.

E-mail addresses, telephone numbers, cards, IBANs, IP addresses and secrets.

Each kind is a pattern and a proof: cards pass Luhn's sum and carry an issuer's prefix, IBANs pass ISO 13616's check
modulo 97 and have their country's length, telephone numbers are valid by Google's `phonenumbers`, addresses parse.
Figures that merely have the right number of digits are not reported.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import phonenumbers

NAMES = {
    "email_address": "An e-mail address",
    "phone_number": "A telephone number",
    "card_number": "A payment card's number",
    "iban": "A bank account's number (IBAN)",
    "ip_address": "An IP address",
    "secret": "A secret",
}
KINDS = tuple(NAMES)

_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![\w@-])", re.ASCII)
_CARD = re.compile(r"(?<![\w.,:/-])(?<!\d )\d(?:[ -]?\d){12,18}(?![\w])(?![.,-]\d)", re.ASCII)
_CARD_GROUPS = re.compile(r"\d{14,16}|62\d{14,17}|(\d{4}[ -]){3}\d{4}|\d{4}[ -]\d{6}[ -]\d{4,5}|(\d{4}[ -]){4}\d{3}")
# Prefix and length by issuer: Visa, Mastercard, American Express, Diners, JCB, Discover, UnionPay, RuPay.
_ISSUERS = re.compile(
    r"4\d{15}|5[1-5]\d{14}|2(2[2-9]|[3-6]\d|7[0-2])\d{13}|3[47]\d{13}|3(0[0-5]|[689]\d)\d{11}|35\d{14}"
    r"|6(011|4[4-9]\d|5\d\d)\d{12}|62\d{14,17}|8[12]\d{14}"
)
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]{4}){2,7}(?:[ -]?[A-Z0-9]{1,3})?(?![A-Za-z0-9])")
_IPV4 = re.compile(r"(?<![\w.-])\d{1,3}(?:\.\d{1,3}){3}(?![\w-])(?!\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{1,4}(?![\w:])(?!\.\d)")
# What comes before the number of a version or a section, which may have four parts too.
_NUMBERED = re.compile(
    r"(?:[=<>~^§]|(?:version|release|firmware|driver|build|section|sections|rfc *\d*|§+|v)\W{0,3})$", re.IGNORECASE
)
_RESOLVERS = frozenset(("1.1.1.1", "1.0.0.1", "8.8.8.8", "8.8.4.4", "9.9.9.9"))
_INTERNATIONAL = re.compile(r"(?<![\w+])\+[1-9](?:[ ().-]{0,2}\d){6,14}(?!\d)")

# Forms people write at home, and whose numbering plan proves them. Plain runs of digits only where the plan is narrow.
_BEFORE = r"(?<![\w.+/-])(?<!\d[ .-])"
_AFTER = r"(?![\w-])(?![ .]\d)"
NATIONAL = {
    region: re.compile(_BEFORE + pattern + _AFTER, re.ASCII)
    for region, pattern in (
        ("US", r"(?:1[ .-])?(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[ .-])[2-9]\d{2}[ .-]\d{4}"),
        ("CN", r"1[3-9]\d(?:\d{8}|[ -]\d{4}[ -]\d{4})"),
        ("FR", r"0[1-9](?:([ .-])\d{2})(?:\1\d{2}){3}"),
        ("GB", r"0(?:7\d{3} ?\d{6}|20 \d{4} \d{4}|1\d{3} \d{6}|1\d{2} \d{3} \d{4})"),
        ("DE", r"0(?:1[567]\d[ /-]\d{7,8}|[2-9]\d{1,3}[ /-]\d{6,8})"),
    )
}

_RUN = r"(?![A-Za-z0-9_-])"
SECRETS = {
    "OpenAI or compatible key": rf"\bsk-(?:proj-|svcacct-|admin-|ant-|or-)?[A-Za-z0-9_-]{{20,200}}{_RUN}",
    "Stripe key": rf"\b[sr]k_live_[A-Za-z0-9]{{16,100}}{_RUN}",
    "AWS access key": rf"\b(?:AKIA|ASIA)[A-Z2-7]{{16}}{_RUN}",
    "GitHub token": rf"\b(?:gh[pousr]_[A-Za-z0-9]{{36,251}}|github_pat_[A-Za-z0-9_]{{60,100}}){_RUN}",
    "GitLab token": rf"\bglpat-[A-Za-z0-9_-]{{20,60}}{_RUN}",
    "Slack token": rf"\b(?:xox[abprs]|xapp)-[A-Za-z0-9-]{{10,200}}{_RUN}",
    "Google key": rf"\b(?:AIza[A-Za-z0-9_-]{{35}}|ya29\.[A-Za-z0-9_-]{{20,300}}){_RUN}",
    "Hugging Face token": rf"\bhf_[A-Za-z0-9]{{30,60}}{_RUN}",
    "npm or PyPI token": rf"\b(?:npm_[A-Za-z0-9]{{36}}|pypi-AgE[A-Za-z0-9_-]{{50,300}}){_RUN}",
    "SendGrid key": rf"\bSG\.[A-Za-z0-9_-]{{16,32}}\.[A-Za-z0-9_-]{{16,64}}{_RUN}",
    "DigitalOcean token": rf"\bdop_v1_[a-f0-9]{{64}}{_RUN}",
    "Azure storage key": r"\bAccountKey=[A-Za-z0-9+/]{60,100}={0,2}",
    "JSON web token": rf"\beyJ[A-Za-z0-9_-]{{10,400}}\.eyJ[A-Za-z0-9_-]{{10,4000}}\.[A-Za-z0-9_-]{{10,2000}}{_RUN}",
    "private key": r"-----BEGIN (?:[A-Z0-9]{1,20} ){0,3}PRIVATE KEY(?: BLOCK)?-----",
}
_SECRET = re.compile("|".join(f"({pattern})" for pattern in SECRETS.values()))
_SECRET_NAMES = tuple(SECRETS)

# ISO 13616 registry: country and total length.
_IBANS = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20 EG29 "
    "ES24 FI18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 "
    "LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NL18 NO15 PK24 PL28 PS29 PT25 "
    "QA29 RO24 RS22 SA24 SC31 SE24 SI19 SK24 SM27 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20"
)
IBAN_LENGTHS = {entry[:2]: int(entry[2:]) for entry in _IBANS.split()}


@dataclass(frozen=True, slots=True)
class Hit:
    """Personal data in a text.

    `masked` shows enough to find the place again and not enough to use.
    """

    kind: str
    start: int
    end: int
    masked: str


def hits_in(text: str, groups: Iterable[str] | None = None) -> list[Hit]:
    """The hits of `groups` in one text, in order.

    Where two overlap, the first group's is kept.
    """
    found: list[Hit] = []
    for group in GROUPS if groups is None else sorted(groups, key=GROUPS.index):
        found = _with(found, _FINDERS[group](text))
    return found


def _with(found: list[Hit], more: Iterable[Hit]) -> list[Hit]:
    """Both in order, less those of `more` that overlap one of `found`; each of the two is in order itself."""
    kept, at = [], 0
    for hit in more:
        while at < len(found) and found[at].end <= hit.start:
            at += 1
        if at == len(found) or found[at].start >= hit.end:
            kept.append(hit)
    return sorted(found + kept, key=lambda hit: hit.start) if kept else found


def is_luhn(digits: str) -> bool:
    """Luhn's checksum (ISO/IEC 7812)."""
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(int(digit) for digit in digits[-1::-2]) + sum(doubled)) % 10 == 0


def is_valid_iban(compact: str) -> bool:
    """Country, length and check digits of an IBAN without blanks."""
    if IBAN_LENGTHS.get(compact[:2]) != len(compact):
        return False
    return int("".join(str(int(char, 36)) for char in compact[4:] + compact[:4])) % 97 == 1


def _emails(text: str) -> Iterator[Hit]:
    for match in _EMAIL.finditer(text) if "@" in text else ():
        user, _, domain = match[0].rpartition("@")
        yield Hit(
            "email_address", *match.span(), f"{user[:2] if len(user) > 2 else ''}***@***.{domain.rpartition('.')[2]}"
        )


def _secrets(text: str) -> Iterator[Hit]:
    for match in _SECRET.finditer(text):
        name, value = _SECRET_NAMES[(match.lastindex or 1) - 1], match[0]
        if name == "private key":
            yield Hit("secret", *match.span(), "private key ***")
        elif name == "Azure storage key" or _is_random(value):
            yield Hit("secret", *match.span(), f"{name} {value[:4]}***")


def _is_random(value: str) -> bool:
    """Keys mix digits and letters; `sk-learn-pipeline-with-words` and rows of x do not."""
    tail = value[4:]
    return any(char.isdigit() for char in tail) and len(set(tail)) > 7


def _ibans(text: str) -> Iterator[Hit]:
    for match in _IBAN.finditer(text):
        value = match[0]
        while value:  # a word in capitals may follow the number, as in `DE89 3704 0044 0532 0130 00 ABC`
            compact = value.replace(" ", "").replace("-", "")
            if is_valid_iban(compact):
                yield Hit("iban", match.start(), match.start() + len(value), f"{compact[:4]}***{compact[-2:]}")
                break
            value = value.rpartition(" ")[0]


def _cards(text: str) -> Iterator[Hit]:
    for match in _CARD.finditer(text):
        digits = match[0].replace(" ", "").replace("-", "")
        if _CARD_GROUPS.fullmatch(match[0]) and _ISSUERS.fullmatch(digits) and is_luhn(digits) and len(set(digits)) > 1:
            yield Hit("card_number", *match.span(), f"{digits[:2]}** **** **** {digits[-2:]}")


def _ips(text: str) -> Iterator[Hit]:
    yield from _with(list(_ipv4(text)), _ipv6(text) if text.count(":") > 1 else ())


def _ipv4(text: str) -> Iterator[Hit]:
    for match in _IPV4.finditer(text):
        if _is_address(match[0]) and not _is_numbering(text, match):
            yield Hit("ip_address", *match.span(), f"{match[0].partition('.')[0]}.***")


def _ipv6(text: str) -> Iterator[Hit]:
    for match in _IPV6.finditer(text):
        whole = match[0].count(":") == 7 or "::" in match[0]
        if whole and len(match[0].replace(":", "")) > 6 and _is_address(match[0]):
            yield Hit("ip_address", *match.span(), f"{match[0].partition(':')[0]}:***")


def _is_numbering(text: str, match: re.Match[str]) -> bool:
    """A version or a section. One address in 4,000 has four parts below 32; numbers of that kind mostly have."""
    small = max(map(int, match[0].split("."))) < 32
    if small and match[0] not in _RESOLVERS and not match[0].startswith("10."):
        return True
    return _NUMBERED.search(text, max(0, match.start() - 12), match.start()) is not None


def _is_address(value: str) -> bool:
    """An address of some machine: not this one, not everyone, not a netmask."""
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified or address.is_multicast or address.is_reserved)


def _phones(region: str) -> Callable[[str], Iterator[Hit]]:
    return lambda text: _valid_phones(text, NATIONAL[region], region)


def _valid_phones(text: str, pattern: re.Pattern[str], region: str | None) -> Iterator[Hit]:
    for match in pattern.finditer(text):
        try:
            number = phonenumbers.parse(match[0], region)
        except phonenumbers.NumberParseException:
            continue
        if phonenumbers.is_valid_number(number):
            digits = [char for char in match[0] if char.isdigit()]
            start = "+" if match[0].startswith("+") else ""
            yield Hit("phone_number", *match.span(), f"{start}{''.join(digits[:2])}***{''.join(digits[-2:])}")


_FINDERS: dict[str, Callable[[str], Iterator[Hit]]] = {
    "secrets": _secrets,
    "emails": _emails,
    "ibans": _ibans,
    "cards": _cards,
    "ips": _ips,
    "phones": lambda text: _valid_phones(text, _INTERNATIONAL, None),
    **{region: _phones(region) for region in NATIONAL},
}
GROUPS = tuple(_FINDERS)  # what can be looked for by itself
