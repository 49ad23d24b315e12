"""Any JSON value on any line: nothing is raised, and the counts add up. `fix` is idempotent and its output passes."""

import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunesmith.check.file_check import CheckOptions, check_file
from tunesmith.check.fix.fixed_file import fix_file
from tunesmith.check.report.file_report import Report
from tunesmith.check.scan.chunk import scan
from tunesmith.check.scan.result import ScanOptions
from tunesmith.errors import InvalidRequest
from tunesmith.jsonvalue import JsonObject
from tunesmith.rows.codes import CODES
from tunesmith.rows.message_faults import _is_plain, message_faults
from tunesmith.rows.row import RowError, parse_row

NAMES = """messages role content name weight tool_calls tool_call_id function_call refusal tools functions prompt
completion input preferred_output non_preferred_output preferred_completion conversations from value id type function
arguments parameters text audio parallel_tool_calls"""
KEYS = st.sampled_from(NAMES.split()) | st.text(max_size=3)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["user", "assistant", "system", "tool", "human", "gpt", "function", "text", "image_url", "", " "])
    | st.text(st.characters(codec="utf-8"), max_size=12)
)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=12
)
CALLS = st.fixed_dictionaries(
    {
        "id": st.sampled_from(["c1", "c2"]) | ANYTHING,
        "type": st.just("function"),
        "function": st.fixed_dictionaries({"name": st.sampled_from(["f", "g"]), "arguments": st.just("{}") | ANYTHING}),
    }
)
MESSAGES = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["system", "user", "assistant", "tool", "gpt"]),
        "content": st.text(max_size=8) | ANYTHING,
    },
    optional={"weight": st.sampled_from([0, 1, 1.0, 2]), "tool_calls": st.lists(CALLS), "tool_call_id": ANYTHING},
)
ROWS = (
    ANYTHING
    | st.fixed_dictionaries({"messages": st.lists(MESSAGES | ANYTHING, max_size=5)}, optional={"tools": ANYTHING})
    | st.fixed_dictionaries({"prompt": st.text(max_size=5), "completion": st.text(max_size=5) | ANYTHING})
    | st.fixed_dictionaries(
        {
            "input": st.fixed_dictionaries({"messages": st.lists(MESSAGES, max_size=3)}) | ANYTHING,
            "preferred_output": st.lists(MESSAGES, max_size=2),
            "non_preferred_completion": st.lists(MESSAGES, max_size=2),
        }
    )
)
LINES = st.lists(ROWS.map(lambda row: json.dumps(row).encode()) | st.binary(max_size=20), max_size=8)
EXAMPLES = 60 * int(os.environ.get("PROPERTIES", "1"))  # `make fuzz` makes more
SLOW = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def counts_add_up(report: Report) -> None:
    totals = {"error": 0, "warning": 0}
    for code, count in report.counts.items():
        totals[CODES[code].severity] += count
    assert totals == {"error": report.error_count, "warning": report.warning_count}
    assert report.sound_rows + report.bad_rows == report.examples
    assert 0 <= report.bad_rows <= report.examples
    assert report.ok == (report.error_count == 0)
    assert len(report.errors) <= report.error_count
    assert {one.code for one in report.errors + report.warnings} == set(report.counts)
    assert report.openai.learned_tokens + report.openai.system_tokens <= report.openai.tokens
    assert (report.per_row.tokens.total if report.per_row.tokens else 0) == report.openai.tokens
    json.dumps(report.to_json(), allow_nan=False)


@SLOW
@given(LINES)
def test_any_lines_yield_a_report_that_adds_up(lines: list[bytes]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_bytes(b"\n".join(lines))
        counts_add_up(check_file(path))


@SLOW
@given(ROWS)
def test_what_the_check_passes_can_be_parsed_and_what_it_refuses_cannot(row: object) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_text(json.dumps(row) + "\n")
        report = check_file(path, CheckOptions(min_examples=0))
        value = json.loads(path.read_text())
        if "not_jsonl" in report.counts or "not_utf8" in report.counts or "lone_surrogate" in report.counts:
            return
        try:
            parse_row(value)
        except RowError:
            assert not report.ok
        else:
            assert report.ok, report.errors


@SLOW
@given(LINES)
def test_fix_is_idempotent_and_its_output_passes(lines: list[bytes]) -> None:
    with TemporaryDirectory() as folder:
        source, once, twice = (Path(folder) / name for name in ("rows", "once", "twice"))
        source.write_bytes(b"\n".join(lines))
        try:
            result = fix_file(source, once)
        except InvalidRequest:
            assert not check_file(source).ok
            return
        assert result.rows_in == result.rows_out + result.duplicates + result.empty + result.rejected
        assert source.read_bytes() == b"\n".join(lines)
        assert result.is_written is once.exists() is bool(result.rows_out)
        if not result.rows_out:
            return
        report = check_file(once, CheckOptions(min_examples=0))
        assert report.examples == result.rows_out
        assert report.ok, report.errors
        again = fix_file(once, twice)
        assert twice.read_bytes() == once.read_bytes()
        assert again.is_unchanged


@SLOW
@given(MESSAGES)
def test_a_message_that_gets_no_closer_look_would_have_had_no_fault(message: JsonObject) -> None:
    if _is_plain(message):
        assert list(message_faults(message, "messages[0]")) == []


TEXTS = st.text(st.sampled_from('a":\\{}[] \n\u00e9'), max_size=6)


@SLOW
@given(st.lists(st.tuples(st.sampled_from(["user", "assistant"]), TEXTS), min_size=1, max_size=3), st.data())
def test_a_key_that_stands_twice_is_found_whatever_the_texts_and_the_spaces(
    turns: list[tuple[str, str]], data: st.DataObject
) -> None:
    row = json.dumps({"messages": [{"role": role, "content": text} for role, text in turns]})
    spaced = row.replace('"role":', '"role" :') if data.draw(st.booleans()) else row
    again = data.draw(
        st.sampled_from(['"content": "x", ', '"content" : "\\\\", ', '"content": 1, ', '"content":"\\u0022",'])
    )
    place = spaced.index('"content":')
    broken = spaced[:place] + again + spaced[place:]
    assert "duplicate_key" not in scan(spaced.encode(), 1, ScanOptions("chat")).log.counts
    assert scan(broken.encode(), 1, ScanOptions("chat")).log.counts == {"duplicate_key": 1}
