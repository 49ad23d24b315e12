"""Personal data and secrets: what is found, what is not, where, and that it is never printed whole."""

import json
import random
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.check.file_check import CheckOptions, check_file
from tunesmith.check.report.file_report import Report
from tunesmith.check.rules.pii import suspects
from tunesmith.check.rules.pii_kinds import IBAN_LENGTHS, hits_in, is_luhn, is_valid_iban
from tunesmith.check.scan.batch import GAP
from tunesmith.jsonvalue import JsonObject

# Put together here, so that no scanner of this repository takes them for real ones.
SECRET_SAMPLES = [
    "sk-" + "proj-4kTz81QwErTy56UiOpAsDfGh",
    "sk-" + "4kTz81QwErTy56UiOpAsDfGhJkLzXcVbNm12345678901234",
    "sk_" + "live_4eC39HqLyjWDarjtT1zdp7dc",
    "AKIA" + "IOSFODNN7EXAMPLE",
    "gh" + "p_16C7e42F292c6912E7710c838347Ae178B4a",
    "github_" + "pat_11ABCDEFG0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRST",
    "glpat" + "-Zx81kQwErTy56UiOpAsD",
    "xoxb" + "-123456789012-1234567890123-AbCdEfGhIjKlMnOpQrStUvWx",
    "AIza" + "SyD4kTz81QwErTy56UiOpAsDfGhJkLzXcVb",
    "hf_" + "4kTzQwErTyUiOpAsDfGhJkLzXcVbNmQw12",
    "npm_" + "4kTz81QwErTy56UiOpAsDfGhJkLzXcVbNm12",
    "SG." + "ngeVfQFYQlKU0ufo8x5d1A" + ".TwL2iGABf9DHoTf-09kqeF8tAmbihYzrnopKc-1s5cr",
    "eyJ"
    + "hbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"
    + ".eyJ"
    + "zdWIiOiIxMjM0NTY3ODkwIn0"
    + ".dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P",
    "-----BEGIN RSA " + "PRIVATE KEY-----",
    "-----BEGIN " + "PRIVATE KEY-----",
    "-----BEGIN PGP " + "PRIVATE KEY BLOCK-----",
]
SAMPLES = {
    "email_address": ["joe.bloggs@firm.com", "anna+news@mail.uni-bonn.de", "x_y@sub.domain.co.uk", "li@qq.com"],
    "phone_number": [
        "+1 415 555 0132",
        "+44 20 7946 0958",
        "+49 (30) 901820",
        "+8613912345678",
        "(212) 736-5000",
        "212-736-5000",
        "1-800-356-9377",
        "13912345678",
        "139 1234 5678",
        "06 12 34 56 78",
        "06.12.34.56.78",
        "020 7946 0958",
        "07911 123456",
        "0151 23456789",
        "030 12345678",
    ],
    "card_number": [
        "4111111111111111",
        "4111 1111 1111 1111",
        "5500-0000-0000-0004",
        "3782 822463 10005",
        "6011000990139424",
        "30569309025904",
    ],
    "iban": [
        "GB82 WEST 1234 5698 7654 32",
        "DE89370400440532013000",
        "FR14 2004 1010 0505 0001 3M02 606",
        "NO93 8601 1117 947",
        "CH9300762011623852957",
    ],
    "ip_address": [
        "8.8.8.8",
        "192.168.1.10",
        "203.0.113.77",
        "2001:0db8:85a3:0000:0000:8a2e:0370:7334",
        "2a00:1450:4001::200e",
    ],
    "secret": SECRET_SAMPLES,
}
ALL = [(kind, value) for kind, values in SAMPLES.items() for value in values]
HARMLESS = [
    "Order 4111111111111112 of 12345678901234567890",
    "On 2023-10-05 12:30:45 we had 1,234,567.89 and 1 234 567 890 of them",
    "pi is 3.14159265358979 and 2^64 is 18446744073709551616",
    "versions 1.2.3.4, v10.4.2.1, >=4.10.0.0 and section 8.4.1.3 of RFC 9110",
    "see § 4.2.3.1, and 127.0.0.1 or 0.0.0.0 or 255.255.255.0 or 300.1.2.3",
    "std::vector<int> a::b 12:30:45 ratio 3:4:5:6",
    "sk-learn-pipeline-with-many-words and sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "AKIA is a prefix; eyJ too; ghp_ as well; AIza; -----BEGIN CERTIFICATE-----",
    "user@host, @mention, a@b, me@localhost and 3 @ 4.50 each",
    "0x4111111111111111 and b2641294145414841a51154415541f",
    "01 02 03 04 05 06 07 08",
    "GB82 is not enough and GB82WEST12345698765433 has the wrong sum",
    "ISBN 978-3-16-148410-0, EAN 4006381333931, zip 10115-1234, 555-1234",
    "phases 1990-1995 2000-2005, scores 10-12 13-15, id 20231005123456789",
    "电话是多少？订单号 20231005，价格 12345 元，长度 1234567 米",
]


def blob(*texts: str) -> bytes:
    return GAP.join(text.encode() for text in texts)


def chat(answer: str) -> JsonObject:
    return {"messages": [{"role": "user", "content": "Tell me."}, {"role": "assistant", "content": answer}]}


def report_on(path: Path, rows: list[JsonObject]) -> Report:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return check_file(path, CheckOptions(analysers=("personal_data",)))


@pytest.mark.parametrize(("kind", "value"), ALL)
@pytest.mark.parametrize("around", ["{}", "Write to {}, please.", "电话：{}。谢谢", "({})", "a\n{}\nb"])
def test_sample_is_found_alone_and_in_a_sentence(kind: str, value: str, around: str) -> None:
    text = around.format(value)
    assert [hit.kind for hit in hits_in(text)] == [kind]
    (hit,) = hits_in(text)
    assert text[hit.start : hit.end] in (value, value.strip("()"))
    assert list(suspects(blob("none", text, "none"))) == [1]


@pytest.mark.parametrize("text", HARMLESS)
def test_figures_and_words_that_only_look_alike_are_left_alone(text: str) -> None:
    assert hits_in(text) == []


@pytest.mark.parametrize(("kind", "value"), ALL)
def test_value_is_never_printed_whole(kind: str, value: str, tmp_path: Path) -> None:
    rows = [chat(f"Well, row {number} says so.") for number in range(12)]
    report = report_on(tmp_path / "rows.jsonl", [*rows, chat(f"It is {value} indeed.")])
    printed = json.dumps(report.to_json()) + " ".join(map(str, report.warnings))
    assert report.counts[kind] == 1
    bare = "".join(char for char in value if char.isalnum())
    shown = "".join(char for char in printed if char.isalnum())
    assert value not in printed
    assert bare not in shown
    (found,) = [one for one in report.warnings if one.code == kind]
    assert found.value is not None
    assert (
        sum(char.isalnum() for char in found.value.replace("private key", "")) <= max(8, len(bare) // 2)
        or kind == "secret"
    )


def test_masked_forms() -> None:
    shown = {value: hits_in(value)[0].masked for value in ("joe.bloggs@firm.com", "li@qq.com", "4111 1111 1111 1111")}
    assert shown == {
        "joe.bloggs@firm.com": "jo***@***.com",
        "li@qq.com": "***@***.com",
        "4111 1111 1111 1111": "41** **** **** 11",
    }
    assert hits_in("192.168.1.10")[0].masked == "192.***"
    assert hits_in(SECRET_SAMPLES[3])[0].masked == "AWS access key AKIA***"


def test_hits_are_counted_and_located_in_every_part_of_a_row(tmp_path: Path) -> None:
    call: JsonObject = {
        "id": "c1",
        "type": "function",
        "function": {"name": "mail", "arguments": '{"to": "joe@firm.com"}'},
    }
    tool: JsonObject = {
        "type": "function",
        "function": {"name": "mail", "description": "Ask root@firm.com", "parameters": {}},
    }
    row: JsonObject = {
        "messages": [
            {"role": "system", "content": "Call +44 20 7946 0958."},
            {"role": "user", "content": [{"type": "text", "text": "My card is 4111 1111 1111 1111"}]},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "ip 203.0.113.77"},
            {"role": "assistant", "content": f"Done with {SECRET_SAMPLES[4]}, and again joe@firm.com."},
        ],
        "tools": [tool],
    }
    report = report_on(tmp_path / "rows.jsonl", [*[chat(f"Row {number}") for number in range(12)], row])
    places = {(one.code, one.path) for one in report.warnings if one.line == 13}
    assert {
        ("phone_number", "messages[0].content"),
        ("card_number", "messages[1].content[0].text"),
        ("email_address", "messages[2].tool_calls[0].function.arguments"),
        ("ip_address", "messages[3].content"),
        ("secret", "messages[4].content"),
        ("email_address", "messages[4].content"),
        ("email_address", "tools[0]"),
    } <= places
    assert report.counts["email_address"] == 3
    assert report.sections["personal_data"] == {
        "rows_with": {"email_address": 1, "phone_number": 1, "card_number": 1, "ip_address": 1, "secret": 1}
    }


def test_many_rows_with_addresses_are_all_counted_though_few_are_listed(tmp_path: Path) -> None:
    report = report_on(tmp_path / "rows.jsonl", [chat(f"Write to user{number}@firm.com.") for number in range(500)])
    assert report.counts["email_address"] == 500
    assert 1 <= sum(one.code == "email_address" for one in report.warnings) <= 100
    assert report.sections["personal_data"] == {"rows_with": {"email_address": 500}}
    assert report.ok


def test_plain_figures_give_no_flood_of_findings() -> None:
    rng = random.Random(5)
    forms = ("{:d}", "{:,}", "{:.4f}", "{:e}", "-{:d}", "{:d} - {:d}", "{:d}/{:d}", "{:x}")
    texts = []
    for _ in range(20_000):
        numbers = [rng.randrange(10 ** rng.randint(1, 10)) for _ in range(6)]
        texts.append(" and ".join(rng.choice(forms[:5]).format(number) for number in numbers))
    hits = [hit for text in texts for hit in hits_in(text)]
    assert len(hits) <= 2, hits[:10]


@pytest.mark.parametrize(
    "part", ["joe@firm.com ", "8.8.8.8 ", "-eyJ", "-sk-", "1 ", "a@", "::1", "+1", "0000 ", "AA00"]
)
def test_hostile_text_is_searched_in_bounded_time(part: str) -> None:
    text = part * (400_000 // len(part))
    started = time.process_time()
    hits_in(text)
    assert time.process_time() - started < 8


@pytest.mark.parametrize(
    ("digits", "holds"), [("79927398713", True), ("79927398710", False), ("0", True), ("18", True)]
)
def test_luhn(digits: str, holds: bool) -> None:
    assert is_luhn(digits) is holds


@settings(max_examples=200)
@given(st.integers(0, 10**15 - 1))
def test_luhn_finds_every_single_wrong_digit(number: int) -> None:
    body = f"{number:015d}"
    (check,) = [digit for digit in "0123456789" if is_luhn(body + digit)]
    card = body + check
    wrong = str((int(card[7]) + 1) % 10)
    assert not is_luhn(card[:7] + wrong + card[8:])


def test_iban_checks_length_and_sum() -> None:
    assert is_valid_iban("DE89370400440532013000")
    assert not is_valid_iban("DE89370400440532013001")
    assert not is_valid_iban("DE8937040044053201300")
    assert not is_valid_iban("ZZ89370400440532013000")
    assert (len(IBAN_LENGTHS), IBAN_LENGTHS["NO"], IBAN_LENGTHS["MT"]) == (78, 15, 31)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(ALL),
    st.text(alphabet="ab1 .,:\n中é", max_size=20),
    st.text(alphabet="ab1 .,:\n中é", max_size=20),
)
def test_quick_search_never_passes_over_what_the_careful_one_finds(
    sample: tuple[str, str], before: str, after: str
) -> None:
    text = f"{before} {sample[1]} {after}"
    found = {hit.kind for hit in hits_in(text)}
    groups = suspects(blob("x", text)).get(1, set())
    assert {hit.kind for hit in hits_in(text, groups)} == found


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=300))
def test_any_text_is_searched_without_a_fault(text: str) -> None:
    for hit in hits_in(text):
        assert 0 <= hit.start < hit.end <= len(text)
    assert set(suspects(blob(text))) <= {0}
