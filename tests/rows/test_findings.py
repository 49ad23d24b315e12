"""Findings: their text, their grouping, and a log that counts all and lists some."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.rows.codes import CODES
from tunesmith.rows.findings import (
    LISTED,
    LISTED_WARNINGS,
    VALUE_CHARS,
    Fault,
    Finding,
    FindingLog,
    at_line,
    count_of,
    finding,
    grouped,
    shorten,
)

ERROR, WARNING = "invalid_json", "no_system"


def log_of(*codes: str) -> FindingLog:
    log = FindingLog()
    log.extend(finding(code, number, "m") for number, code in enumerate(codes, start=1))
    return log


def test_every_code_is_a_sentence_with_a_fix() -> None:
    for name, code in CODES.items():
        assert name.replace("_", "").islower(), name
        assert code.meaning[0].isupper(), name
        assert code.meaning.endswith("."), name
        assert code.fix.endswith((".", "...].", "}.")), name
        assert code.severity in ("error", "warning")


def test_a_finding_reads_as_place_message_and_fix() -> None:
    found = finding(ERROR, 7, "The line is bad.", path="messages[0]", value="x")
    assert str(found) == f"line 7, messages[0]: The line is bad. {CODES[ERROR].fix}"
    assert str(finding(ERROR, 7, "Bad.")) == f"line 7: Bad. {CODES[ERROR].fix}"
    assert str(finding("few_examples", None, "Few.")) == f"Few. {CODES['few_examples'].fix}"
    assert at_line(Fault(ERROR, "a", "Bad.", "v"), 3) == finding(ERROR, 3, "Bad.", path="a", value="v")
    assert Finding.from_json(found.to_json()) == found


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "null"),
        ("a", '"a"'),
        ([1, "b"], '[1,"b"]'),
        ({"a": True}, '{"a":true}'),
        ("\x1b[31m", '"\\u001b[31m"'),
        ("\u202e\x85", '"\ufffd\ufffd"'),
        (2**70, str(2**70)),
    ],
)
def test_values_are_shown_as_json(value: object, shown: str) -> None:
    assert shorten(value) == shown  # type: ignore[arg-type]


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_any_value_is_shown_in_one_short_line(value: object) -> None:
    shown = shorten(value)  # type: ignore[arg-type]
    assert 0 < len(shown) <= VALUE_CHARS
    assert "\n" not in shown


def test_a_long_value_is_cut() -> None:
    assert shorten("x" * 10**6) == '"' + "x" * (VALUE_CHARS - 2) + "…"


def test_all_are_counted_and_the_first_errors_listed() -> None:
    log = log_of(*[ERROR] * (LISTED + 50))
    assert (log.counts, log.total("error"), log.total("warning")) == ({ERROR: LISTED + 50}, LISTED + 50, 0)
    assert [one.line for one in log.errors] == list(range(1, LISTED + 1))


def test_a_common_warning_does_not_crowd_out_the_others() -> None:
    log = log_of(*[WARNING] * 500, "role_order", *[WARNING] * 5)
    assert [one.code for one in log.warnings] == [WARNING] * LISTED_WARNINGS + ["role_order"]
    assert log.total("warning") == 506


def test_the_first_of_each_code_is_always_listed() -> None:
    log = log_of(*["invalid_json"] * LISTED, "extra_key", "extra_key")
    assert [one.code for one in log.errors[LISTED:]] == ["extra_key"]


def test_a_fault_is_listed_as_its_finding_would_be() -> None:
    one, two = FindingLog(), FindingLog()
    for line in range(1, 40):
        one.add(finding(WARNING, line, "m", path="p"))
        two.add_fault(Fault(WARNING, "p", "m"), line)
    assert one == two


@given(st.lists(st.sampled_from([ERROR, WARNING, "extra_key", "role_order"]), max_size=300), st.integers(0, 300))
def test_merged_logs_count_what_one_log_counts(codes: list[str], at: int) -> None:
    whole, merged = log_of(*codes), log_of(*codes[:at])
    rest = FindingLog()
    rest.extend(finding(code, number, "m") for number, code in enumerate(codes[at:], start=at + 1))
    merged.merge(rest.counts, [*rest.errors, *rest.warnings])
    assert merged.counts == whole.counts
    assert {one.code for one in merged.errors} == {one.code for one in whole.errors}
    assert merged.total("error") == count_of(whole.counts, "error")


def test_findings_that_say_the_same_are_one_group() -> None:
    listed = [finding(WARNING, line, "No system.") for line in (3, 7, 9, 12)] + [finding("few_examples", None, "Few.")]
    first, second = grouped(listed, {WARNING: 40, "few_examples": 1})
    assert (first.lines, first.total, first.where) == ((3, 7, 9, 12), 40, "lines 3, 7, 9 and 37 more")
    assert (second.where, second.total) == ("file", 1)


def test_a_code_that_says_different_things_is_counted_by_what_is_listed() -> None:
    listed = [finding(ERROR, 1, "One."), finding(ERROR, 2, "Two."), finding(ERROR, 5, "Two.")]
    first, second = grouped(listed, {ERROR: 90})
    assert (first.where, first.total) == ("line 1", 1)
    assert (second.where, second.total) == ("lines 2, 5", 2)


def test_findings_travel_as_json() -> None:
    value = orjson.loads(orjson.dumps([one.to_json() for one in log_of(ERROR, WARNING).errors]))
    assert value[0]["code"] == ERROR
    assert set(value[0]) == {"code", "severity", "line", "path", "message", "cure", "value"}
