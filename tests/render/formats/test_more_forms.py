"""Forms with nested arguments, thoughts that run into calls, and answers of a megabyte."""
# ruff: noqa: E501  (answers are kept in one piece)

import time
from collections.abc import Iterator

import pytest
from tests.render.formats.test_forms import HERMES, NOW, TYPED, Call, W, in_pieces, joined, read

from tunesmith.jsonvalue import JsonObject
from tunesmith.render.formats.nested_bodies import MINIMAX as M
from tunesmith.render.formats.reader import answer_reader
from tunesmith.render.formats.table import BY_NAME, form_of
from tunesmith.render.tool_call_reader import parse_reply
from tunesmith.rows.messages import Tool

PARAMETERS: JsonObject = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer"},
        "metric": {"type": "boolean"},
        "opts": {"type": "object", "properties": {"a": {"type": "array", "items": {"type": ["integer", "null"]}}}},
        "tags": {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}]},
    },
}
TOOLS = (Tool("weather", "Tells the weather.", PARAMETERS), Tool("now", None, None))
K3 = '<|open|>call tool="weather" index="1"<|sep|><|open|>argument key="city" type="string"<|sep|>Paris<|close|>argument<|sep|><|close|>call<|sep|>'

# form, how the prompt ends, answer, content, calls, thought
CASES: list[tuple[str, str, str, str | None, list[Call], str | None]] = [
    ("minimax_m3", "", f'<mm:think>Hm.</mm:think>Ok.{M}<tool_call>\n{M}<invoke name="weather">{M}<city>Paris{M}</city>{M}</invoke>\n'
     f'{M}<invoke name="now">{M}</invoke>\n{M}</tool_call>', "Ok.", [W, NOW], "Hm."),
    ("minimax_m3", "", f'{M}<tool_call>{M}<invoke name="weather">{M}<city>12{M}</city>{M}<days>3{M}</days>{M}<metric>true{M}</metric>'
     f"{M}<opts>{M}<a>{M}<item>1{M}</item>{M}<item>null{M}</item>{M}</a>{M}</opts>{M}<tags>{M}<item>x{M}</item>{M}<item>y z{M}</item>"
     f"{M}</tags>{M}</invoke>{M}</tool_call>", None, [("weather", TYPED)], None),
    ("kimi_k3", "<|open|>think<|sep|>", f"Hm.<|close|>think<|sep|><|open|>response<|sep|>Ok.<|close|>response<|sep|><|open|>tools<|sep|>{K3}"
     "<|close|>tools<|sep|><|close|>message<|sep|>", "Ok.", [W], "Hm."),
    ("minicpm5", "", '<function name="weather"><param name="city">12</param><param name="days">3</param></function>'
     '<function name="now"></function>', None, [("weather", {"city": "12", "days": 3}), NOW], None),
    ("minicpm5", "", '<function name="weather"><param name="city"><![CDATA[a </param> b]]></param></function>',
     None, [("weather", {"city": "a </param> b"})], None),
    ("hy_v3", "", "Ok.<tool_calls>\n<tool_call>now<tool_sep>\n</tool_call>\n<tool_call>weather<tool_sep>\n<arg_key>city</arg_key>\n"
     "<arg_value>Paris</arg_value>\n</tool_call>\n</tool_calls>", "Ok.", [NOW, W], None),
    ("k2_horizon", "", "<ifm|tool_calls><ifm|tool_call>weather<ifm|arg_key>city</ifm|arg_key><ifm|arg_type>string</ifm|arg_type>"
     "<ifm|arg_value>Paris</ifm|arg_value></ifm|tool_call></ifm|tool_calls>", None, [W], None),
    ("gigachat", "", 'Ok.<|message_sep|>\n\nfunction call<|role_sep|>\n{"name": "weather", "arguments": {"city": "Paris"}}', "Ok.", [W], None),
    ("gigachat", "", '<|function_call|>{"name": "weather", "arguments": {"city": "Paris"}}', None, [W], None),
    ("hunyuan", "", "<think>\nHm.\n</think>\n<answer>\nFour.\n</answer>", "Four.", [], "Hm."),
    ("hunyuan", "", "<think>\nHm.\n</think>\n<answer>\nFour,\n and", "Four,\n and", [], "Hm."),
    ("hunyuan", "", '<think>\n\n</think>\n<tool_calls>[{"name": "weather", "arguments": {"city": "Paris"}}]</tool_calls>', None, [W], None),
    ("granite_20b", "", '<function_call> {"name": "now", "arguments": {}}<function_call> {"name": "weather", "arguments": {"city": "Paris"}}',
     None, [NOW, W], None),
    ("dots", "", '<dots_function_call><invoke name="weather"><parameter name="city">Paris</parameter></invoke></dots_function_call>',
     None, [W], None),
    ("deepseek_v32", "", '<｜DSML｜tool_calls>\n<｜DSML｜invoke name="weather">\n<｜DSML｜parameter name="city" string="true">Paris'
     "</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>", None, [W], None),
    ("deepseek_v32", "", '<｜DSML｜tool_calls><｜DSML｜invoke name="weather"><｜DSML｜parameter name="days" string="true">3'
     '</｜DSML｜parameter><｜DSML｜parameter name="other" string="true">3</｜DSML｜parameter></｜DSML｜invoke></｜DSML｜tool_calls>',
     None, [("weather", {"days": 3, "other": "3"})], None),
    ("kimi_k2", "", '<|tool_call_begin|>functions.weather:0<|tool_call_argument_begin|>{"city": "Paris"}'
     "<|tool_call_begin|>functions.now:1<|tool_call_argument_begin|>{}", None, [W, NOW], None),
    ("gemma4", "", "<|channel>thought\n<channel|>Four.<channel|><|channel>thought\n<channel|>", "Four.", [], None),
    ("gemma4", "", "<|channel>Hm.<channel|><|tool_call>:weather{city:<|\"|>Paris<|\"|>}<tool_call|>", None, [W], "Hm."),
    ("lfm2", "", '<|tool_call_start|>[weather(city="a\nb", tags={"x"})]<|tool_call_end|>', None,
     [("weather", {"city": "a\nb", "tags": ["x"]})], None),
    # A thought that ends without having begun, one that a call ends, and one that only speaks of calls.
    ("hermes", "", "</think>\n\nFour.", "Four.", [], None),
    ("hermes", "<think>\n", f"I look.\n{HERMES}", None, [W], "I look."),
    ("hermes", "", f"<think>\nI look.{HERMES}{HERMES}", None, [W, W], "I look."),
    ("hermes", "<think>\n", f"I may write {HERMES} now.\n</think>\n\n{HERMES}", None, [W], f"I may write {HERMES} now."),
    ("hermes", "<think>\n", "A `<tool_call>` or <tool_call> is not needed.", "", [], "A `<tool_call>` or <tool_call> is not needed."),
    ("jamba", "Here are my reasoning steps:\n", "Hm.\n[BEGIN FINAL RESPONSE]\nFour.", "Four.", [], "Hm."),
]  # fmt: skip


@pytest.mark.parametrize("step", [0, 1, 3, 8], ids=["whole", "1", "3", "8"])
@pytest.mark.parametrize(
    ("form", "begun", "answer", "content", "calls", "thought"),
    CASES,
    ids=[f"{one[0]}-{n}" for n, one in enumerate(CASES)],
)
def test_an_answer_is_read(
    form: str, begun: str, answer: str, content: str | None, calls: list[Call], thought: str | None, step: int
) -> None:
    assert in_pieces(form, TOOLS, begun, answer, step) == (content or "", thought or "", calls)


def test_a_thought_that_was_cut_within_a_call_stays_a_thought() -> None:
    reader = answer_reader(BY_NAME["hermes"], TOOLS, with_calls=True, begun="<think>\n")
    parts = [reader.add(f"I may write {HERMES}"), reader.finish(cut=True)]
    assert joined(parts) == ("", f"I may write {HERMES}", [])


def test_without_tools_a_thought_may_hold_a_call() -> None:
    reader = answer_reader(BY_NAME["hermes"], (), with_calls=False, begun="<think>\n")
    parsed = parse_reply(f"I may write {HERMES}", reader)
    assert (parsed.content, parsed.calls, parsed.reasoning) == ("", (), f"I may write {HERMES}")


def test_elements_without_a_schema_are_objects_and_lists() -> None:
    answer = (
        f'{M}<tool_call>{M}<invoke name="other">{M}<a>{M}<b>1{M}</b>{M}</a>{M}<c>{M}<item>x{M}</item>{M}</c>'
        f"{M}</invoke>{M}</tool_call>"
    )
    parsed = parse_reply(answer, answer_reader(BY_NAME["minimax_m3"], TOOLS, with_calls=True))
    assert read(parsed) == [("other", {"a": {"b": "1"}, "c": ["x"]})]


def test_elements_that_are_nested_without_end_are_text() -> None:
    answer = f'{M}<tool_call>{M}<invoke name="weather">' + f"{M}<a>" * 100_000 + f"{M}</tool_call>"
    parsed = parse_reply(answer, answer_reader(BY_NAME["minimax_m3"], TOOLS, with_calls=True))
    assert (parsed.content, parsed.calls) == (answer, ())


def test_a_form_is_found_in_the_strings_of_a_template() -> None:
    assert form_of("", r"{{ '<tool_call>\n<function=' + name }}").name == "qwen3_coder"


SIZE = 1_000_000


def long_answers(opening: str, closing: str, thought: str) -> Iterator[str]:
    for part in ("<", "{", '\\"', " ", "a-", "\n{", "<arg_key>", closing):
        yield opening + part * (SIZE // len(part or " "))
    yield thought + (opening + "x") * (SIZE // (len(opening) + 1))


@pytest.mark.parametrize("name", BY_NAME)
def test_an_answer_of_a_megabyte_takes_less_than_a_second(name: str) -> None:
    form = BY_NAME[name]
    opening, closing = (marks[0] if marks else "" for marks in (form.opens, form.closes))
    thought = form.thinks[0][0] if form.thinks else ""
    for answer in long_answers(opening, closing, thought):
        begun = time.thread_time()
        reader = answer_reader(form, TOOLS, with_calls=True)
        for at in range(0, SIZE, 100_000):
            reader.add(answer[at : at + 100_000])
        reader.finish()
        assert time.thread_time() - begun < 1, answer[:80]


def test_many_small_pieces_of_a_block_take_time_in_proportion() -> None:
    reader = answer_reader(BY_NAME["glm"], TOOLS, with_calls=True)
    begun = time.thread_time()
    reader.add("<tool_call>")
    for _ in range(50_000):
        reader.add("abcd")
    reader.finish()
    assert time.thread_time() - begun < 2
