"""Calls that are written loosely: a mark forgotten, arguments wrapped once more, quotes within quotes."""
# ruff: noqa: E501  (answers are kept in one piece)

import time

import pytest
from tests.render.formats.test_forms import NOW, Call, W, in_pieces, read

from tunesmith.jsonvalue import JsonObject
from tunesmith.render.formats.nested_bodies import MINIMAX as M
from tunesmith.render.formats.quotes import requoted
from tunesmith.render.formats.reader import answer_reader
from tunesmith.render.formats.table import BY_NAME
from tunesmith.render.formats.values import schemas_of
from tunesmith.render.tool_call_reader import parse_reply
from tunesmith.rows.messages import Tool

PLACE: JsonObject = {"type": "object", "properties": {"street": {"type": "string"}, "near": {"$ref": "#/$defs/Place"}}}
PARAMETERS: JsonObject = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer"},
        "place": {"anyOf": [{"$ref": "#/$defs/Place"}, {"type": "null"}]},
        "text": {"type": "string"},
    },
    "$defs": {"Place": PLACE},
}
TOOLS = (Tool("weather", "Tells the weather.", PARAMETERS), Tool("now", None, None))
OBJECT = '{"name": "weather", "arguments": {"city": "Paris"}}'
INVOKE = '<｜DSML｜invoke name="{}">{}</｜DSML｜invoke>'
PARAM = '<｜DSML｜parameter name="{}" string="{}">{}</｜DSML｜parameter>'
CITY = PARAM.format("city", "true", "Paris")
CHANNEL = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant"

# form, how the prompt ends, answer, content, calls, thought
CASES: list[tuple[str, str, str, str | None, list[Call], str | None]] = [
    # A list of JSON objects, in a fence and with marks of other families; an answer in JSON is no call.
    ("llama3_json", "", f"[{OBJECT}, {OBJECT}]", None, [W, W], None),
    ("llama3_json", "", f"I look.\n```json\n[{OBJECT}]\n```", "I look.", [W], None),
    ("llama3_json", "", f"I look: [{OBJECT}].", "I look:.", [W], None),
    ("llama3_json", "", f"I look.[TOOL_CALLS][{OBJECT}]", "I look.", [W], None),
    ("llama3_json", "", f"I look.<tool_call>[{OBJECT}]</tool_call> Wait.", "I look. Wait.", [W], None),
    ("llama3_json", "", f"<|python_tag|>{OBJECT}<|python_tag|>{OBJECT}", None, [W, W], None),
    ("llama3_json", "", '{"parameters": {"a": 1}}', '{"parameters": {"a": 1}}', [], None),
    ("llama3_json", "", '{"name": "Ada"}', '{"name": "Ada"}', [], None),
    ("llama3_json", "", '{"name": "Ada", "age": 36}', '{"name": "Ada", "age": 36}', [], None),
    ("llama3_json", "", '```json\n[{"name": "Ada", "age": 36}]\n```', '```json\n[{"name": "Ada", "age": 36}]\n```', [], None),
    ("llama3_json", "", '{"name": "now"}', None, [NOW], None),
    ("llama3_json", "", '{"name": "later", "parameters": {}}', None, [("later", {})], None),
    ("pythonic", "", "[later()]", None, [("later", {})], None),
    # What the mark is forgotten of, or another release's.
    ("granite", "", f"<tool_call>[{OBJECT}]", None, [W], None),
    ("deepseek_v32", "", f"I look.{INVOKE.format('weather', CITY)}{INVOKE.format('now', '')}</｜DSML｜tool_calls>", "I look.", [W, NOW], None),
    ("deepseek_v32", "", f"{INVOKE.format('weather', CITY)}\nWait.", "Wait.", [W], None),
    ("minimax", "", '<invoke name="weather"><parameter name="city">Paris</parameter></invoke></minimax:tool_call>', None, [W], None),
    ("muse", "", " to=user<|message|>Four.", "Four.", [], None),
    ("minicpm5", "", '<functionname="weather"><paramname="city">Paris</param></function>', None, [W], None),
    ("apertus", "", '<|tools_prefix|>[{"weather": {"city": "Paris"}}, {"now": {}}', None, [W, NOW], None),
    # Arguments within an argument that the function does not have.
    ("deepseek_v32", "", INVOKE.format("weather", PARAM.format("arguments", "false", '{"city": "Paris"}')), None, [W], None),
    ("deepseek_v32", "", INVOKE.format("weather", PARAM.format("input", "true", '{"city": "Paris"}')), None, [W], None),
    ("deepseek_v32", "", INVOKE.format("weather", PARAM.format("input", "true", '{"town": "Paris"}')), None, [("weather", {"input": '{"town": "Paris"}'})], None),
    ("minicpm5", "", "<function name=\"weather\"><param name=\"properties\">{'city': 'Paris'}</param></function>", None, [W], None),
    ("qwen3_coder", "", '<tool_call>\n<function=weather>\n<parameter=parameters>\n{"city": "Paris"}\n</parameter>\n</function>\n</tool_call>', None, [W], None),
    # Values: types by reference, numbers with zeros, the same element twice, line breaks that belong to a text.
    ("dots", "", '<dots_function_call><invoke name="weather"><parameter name="place">{"street": "A"}</parameter><parameter name="days">007</parameter>'
     "</invoke></dots_function_call>", None, [("weather", {"place": {"street": "A"}, "days": 7})], None),
    ("minimax_m3", "", f'{M}<tool_call>{M}<invoke name="other">{M}<a>1{M}</a>{M}<a>2{M}</a>{M}<a>3{M}</a>{M}</invoke>{M}</tool_call>',
     None, [("other", {"a": ["1", "2", "3"]})], None),
    ("seed_oss", "", "<seed:tool_call><function=weather><parameter=text>a\n  b\n</parameter></function></seed:tool_call>",
     None, [("weather", {"text": "a\n  b\n"})], None),
    ("seed_oss", "", "<seed:tool_call><function=weather><parameter=text>\na\n</parameter></function></seed:tool_call>",
     None, [("weather", {"text": "a"})], None),
    # Quotes within quotes.
    ("lfm2", "", "<|tool_call_start|>[sh(command='sed -n '1,5p' a/b.py')]<|tool_call_end|>", None,
     [("sh", {"command": "sed -n '1,5p' a/b.py"})], None),
    ("lfm2", "", "<|tool_call_start|>[sh(command='python -c \"from a import b\nb(f(x, y='\\,'))\"', days=2), now()]<|tool_call_end|>", None,
     [("sh", {"command": "python -c \"from a import b\nb(f(x, y='\\,'))\"", "days": 2}), NOW], None),
    # An answer whose prompt begins a thought, but which has none; what is sent to nobody that was declared.
    ("kimi_k3", "<|open|>think<|sep|>", "<|open|>response<|sep|>Four.<|close|>response<|sep|>", "Four.", [], None),
    # Further thoughts, behind a text and behind a call.
    ("gemma4", "", "Four.\n<|channel>thought\nOr five?<channel|>\nNo.", "Four.\n\nNo.", [], "Or five?"),
    ("gemma4", "", "<|channel>thought\nA.<channel|>Four.<|channel>B.<channel|><|channel>thought\n<channel|>Five.<|channel>C.", "Four.Five.", [], "A.\nB.\nC."),
    ("apertus", "", '<|inner_prefix|>A.<|inner_suffix|><|tools_prefix|>[{"now": {}}]<|tools_suffix|><|inner_prefix|>B.<|inner_suffix|>Four.', "Four.", [NOW], "A.\nB."),
    ("hermes", "", "Write <think>a</think>.", "Write <think>a</think>.", [], None),
    ("hunyuan", "<think>\n", "<answer>\nFour.\n</answer>", "Four.", [], None),
]  # fmt: skip


@pytest.mark.parametrize("step", [0, 1, 5], ids=["whole", "1", "5"])
@pytest.mark.parametrize(
    ("form", "begun", "answer", "content", "calls", "thought"),
    CASES,
    ids=[f"{one[0]}-{n}" for n, one in enumerate(CASES)],
)
def test_an_answer_is_read(
    form: str, begun: str, answer: str, content: str | None, calls: list[Call], thought: str | None, step: int
) -> None:
    assert in_pieces(form, TOOLS, begun, answer, step) == (content or "", thought or "", calls)


@pytest.mark.parametrize("head", [" to=container.exec<|channel|>commentary", "<|channel|>commentary to=python"])
def test_without_calls_what_harmony_sends_to_a_tool_is_not_shown(head: str) -> None:
    reader = answer_reader(BY_NAME["harmony"], (), with_calls=False)
    parsed = parse_reply(f"{CHANNEL}{head}<|message|>print(1)", reader)
    assert (parsed.content, parsed.calls, parsed.reasoning) == ("", (), "Hm.")


def test_an_answer_without_a_thought_streams_at_once() -> None:
    reader = answer_reader(BY_NAME["kimi_k3"], (), with_calls=False, begun="<|open|>think<|sep|>")
    assert reader.add("<|open|>response<|sep|>Four. Five").text == "Four. Five"


def test_a_reader_of_python_calls_is_not_needed_for_well_formed_texts() -> None:
    text = """[f(a='it\\'s', b="x", c=['p', "q"], d={'k': 'v'}), g(e='')]"""
    assert requoted(text) == text
    parsed = parse_reply(
        f"<|tool_call_start|>{text}<|tool_call_end|>", answer_reader(BY_NAME["lfm2"], (), with_calls=True)
    )
    assert read(parsed) == [("f", {"a": "it's", "b": "x", "c": ["p", "q"], "d": {"k": "v"}}), ("g", {"e": ""})]


def test_schemas_that_refer_to_themselves_end() -> None:
    many: JsonObject = {f"p{n}": {"$ref": "#/$defs/A"} for n in range(50)}
    root: JsonObject = {"type": "object", "properties": many, "$defs": {"A": {"type": "object", "properties": many}}}
    begun = time.thread_time()
    known = schemas_of([Tool("f", None, root)])["f"]
    assert time.thread_time() - begun < 1
    first = known["p0"]
    assert isinstance(first, dict)
    assert first["type"] == "object"


@pytest.mark.parametrize("part", ["'", "')", "',", "\\", "'a"])
def test_quotes_are_looked_at_in_proportion(part: str) -> None:
    begun = time.thread_time()
    requoted("f(a='" + part * 30_000)
    assert time.thread_time() - begun < 0.5
