"""Graders without a model: what they read, refuse and score."""

import re

import pytest

from tunesmith.errors import InvalidRequest
from tunesmith.graders.formula import FormulaError, FormulaResultError, calculate, read_formula
from tunesmith.graders.grader import StringCheck, read_grader, score
from tunesmith.graders.results import read_score
from tunesmith.graders.similarity import METRICS
from tunesmith.graders.templates import NoValue, Variables, checked_template, fill
from tunesmith.jsonvalue import JsonObject, JsonValue, exact_json

FOX, FOXED = "The quick brown fox jumps over the lazy dog.", "The quick brown fox jumped over the lazy dog."
LABEL: JsonObject = {
    "type": "label_model",
    "name": "mood",
    "model": "m",
    "input": [{"role": "user", "content": "{{item.text}}"}],
    "labels": ["good", "bad"],
    "passing_labels": ["good"],
}
CHECK: JsonObject = {
    "type": "string_check",
    "name": "c",
    "input": "{{sample.output_text}}",
    "reference": "{{item.label}}",
}


@pytest.mark.parametrize(
    ("operation", "sample", "value"),
    [
        ("eq", "Rome", 1),
        ("eq", "rome", 0),
        ("ne", "rome", 1),
        ("like", "In Rome.", 1),
        ("like", "in rome", 0),
        ("ilike", "in rome", 1),
        ("ilike", "in Paris", 0),
    ],
)
def test_string_check_compares_as_its_operation_says(operation: str, sample: str, value: float) -> None:
    grader = read_grader({**CHECK, "operation": operation})
    assert isinstance(grader, StringCheck)
    assert score(grader, Variables(sample, {"label": "Rome"})) == value


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        ("fuzzy_match", 0.966292),
        ("bleu", 0.6580370064762462),
        ("gleu", 0.705882),
        ("rouge_1", 8 / 9),
        ("rouge_2", 0.75),
        ("rouge_3", 4 / 7),
        ("rouge_4", 1 / 3),
        ("rouge_5", 0.0),
        ("rouge_l", 8 / 9),
    ],
)
def test_similarity_has_the_metrics_value_and_1_for_equal_texts(metric: str, value: float) -> None:
    assert METRICS[metric](FOX, FOXED) == pytest.approx(value, abs=1e-6)
    assert METRICS[metric](FOX, FOX) == pytest.approx(1.0)
    assert METRICS[metric]("", FOX) == 0.0


def test_similarity_reads_chinese_characters_as_words() -> None:
    assert METRICS["rouge_1"]("天气很好", "天气不好") == pytest.approx(0.75)


def test_a_template_is_filled_once_and_only_with_what_is_there() -> None:
    variables = Variables('{"a": [1, {"b": "x"}], "t": "{{item.secret}}"}', {"n": 3, "secret": "s"})
    assert fill("{{ item.n }} {{sample.output_json.a[1].b}}", variables, "p") == "3 x"
    assert fill("{{sample.output_json.t}}", variables, "p") == "{{item.secret}}"
    with pytest.raises(NoValue, match="no 'gone'") as fault:
        fill("{{item.gone}}", variables, "p")
    assert fault.value.flag == "invalid_variable_error"
    with pytest.raises(NoValue) as fault:
        fill("{{sample.output_json.a}}", Variables("no json"), "p")
    assert fault.value.flag == "sample_parse_error"


def test_what_is_nested_too_deeply_or_has_no_readable_index_has_no_value() -> None:
    deep: JsonValue = "x"
    for _ in range(900):
        deep = {"a": deep}
    with pytest.raises(NoValue, match="nested too deeply"):
        fill("{{item.deep}}", Variables("", {"deep": deep}), "p")
    with pytest.raises(NoValue, match="has no value"):
        fill(f"{{{{item.list[{'9' * 5000}]}}}}", Variables("", {"list": [1]}), "p")


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        ("0.5 * a + 0.5 * b", 0.75),
        ("a ^ 2 - -b", 1.25),
        ("min(a, b, 2) + max(a, b)", 1.5),
        ("floor(a) + ceil(a)", 1),
        ("sqrt(4) / abs(-2) + exp(0) + log(b)", 2),
    ],
)
def test_a_formula_is_plain_arithmetic(formula: str, value: float) -> None:
    names = frozenset({"a", "b"})
    assert calculate(read_formula(formula, names), {"a": 0.5, "b": 1.0}) == pytest.approx(value)


@pytest.mark.parametrize(
    "formula",
    [
        "__import__('os')",
        "a.real",
        "[a]",
        "a if a else 1",
        "a and 1",
        "True",
        "1j",
        "'x'",
        "c",
        "a +",
        "abs(a, a)",
        "min()",
        "(lambda: 1)()",
        "a // 2",
        "max(*a)",
        "(" * 400 + "a" + ")" * 400,
        "-" * 999 + "a",
        "a" * 1001,
        "a\x00",
    ],
)
def test_a_formula_with_anything_else_is_refused(formula: str) -> None:
    with pytest.raises(FormulaError):
        read_formula(formula, frozenset({"a"}))


@pytest.mark.parametrize(
    "formula", ["1 / a", "log(a)", "sqrt(a - 1)", "9^9^9^9", "exp(9999)", "1e308 * 10", "(a-1)^0.5"]
)
def test_a_formula_without_a_finite_result_says_so(formula: str) -> None:
    with pytest.raises(FormulaResultError):
        calculate(read_formula(formula, frozenset({"a"})), {"a": 0.0})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.5", 0.5),
        ("The score is 7.", 7.0),
        ('{"result": 1, "of": 3}', 1.0),
        ("3 of 10", None),
        ("none", None),
        ("v2", None),
        ("-1e-1", -0.1),
    ],
)
def test_a_models_score_is_its_only_number(text: str, value: float | None) -> None:
    assert read_score(text) == value


@pytest.mark.parametrize(
    ("grader", "param"),
    [
        (3, "grader"),
        ({"type": "python", "name": "p"}, "grader.source"),
        ({"type": "python", "name": "p", "source": ""}, "grader.source"),
        ({"type": "python", "name": "p", "source": "#" * 256_000}, "grader.source"),
        ({"type": "python", "name": "p", "source": "x", "image_tag": 3}, "grader.image_tag"),
        ({"type": "golang", "name": "p"}, "grader.type"),
        ({"type": "label_model", "name": "l"}, "grader.model"),
        ({**LABEL, "passing_labels": ["good", "fine"]}, "grader.passing_labels[1]"),
        ({**LABEL, "labels": []}, "grader.labels"),
        ({**CHECK, "operation": "gt"}, "grader.operation"),
        ({**CHECK, "operation": "eq", "extra": 1}, "grader.extra"),
        ({**CHECK, "operation": "eq", "input": "{{sample.model}}"}, "grader.input"),
        ({**CHECK, "type": "text_similarity", "evaluation_metric": "nonsense"}, "grader.evaluation_metric"),
        ({**CHECK, "type": "text_similarity", "evaluation_metric": 1}, "grader.evaluation_metric"),
        ({"type": "score_model", "name": "s", "model": "m", "input": [], "range": [0, 1]}, "grader.input"),
        ({"type": "score_model", "name": "s", "model": "m", "range": [1, 0]}, "grader.range"),
        ({"type": "multi", "name": "m", "graders": {}, "calculate_output": "1"}, "grader.graders"),
        (
            {"type": "multi", "name": "m", "graders": [{**CHECK, "operation": "eq"}], "calculate_output": "d"},
            "grader.calculate_output",
        ),
    ],
)
def test_a_wrong_grader_is_refused_by_field(grader: JsonValue, param: str) -> None:
    value = grader
    if isinstance(grader, dict) and grader.get("type") == "text_similarity":
        value = {**grader, "reference": "x"}
        if param == "grader.evaluation_metric":
            value.pop("operation", None)
    with pytest.raises(InvalidRequest) as refusal:
        read_grader(value)
    assert refusal.value.param == param


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("{{sample.output_tools[0].function.name}}", "weather"),
        ("{{ sample.choices[0].message.content }}", "18446744073709551616"),
        ("{{sample.choices[0].message.tool_calls[0].function.arguments}}", '{"n":1}'),
        ("{{sample.output_json}}", "18446744073709551616"),
        ("{{item.n}} {{item.list}}", '-18446744073709551617 [18446744073709551616,"ü"]'),
    ],
)
def test_a_place_of_the_answer_or_of_a_large_number(place: str, text: str) -> None:
    call: JsonObject = {"type": "function", "function": {"name": "weather", "arguments": '{"n":1}'}}
    item: JsonObject = {"n": -(2**64) - 1, "list": [2**64, "ü"]}
    assert checked_template(place, "p") == place
    assert fill(place, Variables(str(2**64), item, (call,)), "p") == text


def test_exact_json_keeps_digits_and_refuses_what_is_none() -> None:
    assert exact_json('{"a": 12345678901234567890123, "b": 0.5}') == {"a": 12345678901234567890123, "b": 0.5}
    for text in ("NaN 1234567890123456789", "[1234567890123456789", "[Infinity, 1234567890123456789]"):
        with pytest.raises(ValueError):
            exact_json(text)


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        ("class + pass * in", 7.0),
        ("min(min, class)", 1.0),
        ("(class\n  +\r\n  pass)", 3.0),
        ("1e1 + e1", 14.0),
        ("2nd / 5", 1.0),
    ],
)
def test_names_may_be_words_of_python_and_a_formula_may_have_lines(formula: str, value: float) -> None:
    scores = {"class": 1.0, "pass": 2.0, "in": 3.0, "min": 9.0, "e1": 4.0, "2nd": 5.0}
    assert calculate(read_formula(formula, frozenset(scores)), scores) == value


@pytest.mark.parametrize("formula", ["_score_of_0", "a._score_of_0", "_score_of_9", "a(1)", "class"])
def test_a_stand_in_is_no_name(formula: str) -> None:
    with pytest.raises(FormulaError):
        read_formula(formula, frozenset({"a"}))


def test_a_grader_without_a_name_gets_one_and_a_threshold_changes_nothing() -> None:
    nameless = {key: value for key, value in CHECK.items() if key != "name"}
    grader = read_grader({**nameless, "operation": "eq", "pass_threshold": 0.5})
    assert re.fullmatch("grader-[A-Za-z0-9]{12}", grader.name)
    for kind in (LABEL, {**LABEL, "type": "score_model"}):
        given = kind if kind is LABEL else {key: kind[key] for key in ("type", "name", "model", "input")}
        assert read_grader({**given, "pass_threshold": 1}).name == "mood"
