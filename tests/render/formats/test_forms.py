"""Raw answers in the form of each family: what is read of them, whole and in pieces."""
# ruff: noqa: E501  (templates and answers are kept in one piece)

import json
import random

import pytest

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.render.formats.reader import answer_reader
from tunesmith.render.formats.table import BY_NAME, form_of
from tunesmith.render.tool_call_reader import ParsedReply, ReplyPart, parse_reply
from tunesmith.rows.messages import Tool

PARAMETERS: JsonObject = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer"},
        "metric": {"type": "boolean"},
        "opts": {"type": "object"},
        "tags": {"type": "array"},
    },
}
TOOLS = (Tool("weather", "Tells the weather.", PARAMETERS), Tool("now", None, None))
PARIS: JsonObject = {"city": "Paris"}
TYPED: JsonObject = {"city": "12", "days": 3, "metric": True, "opts": {"a": [1, None]}, "tags": ["x", "y z"]}
Call = tuple[str, JsonValue]
W: Call = ("weather", PARIS)
NOW: Call = ("now", {})
HERMES = '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>'
DS = "<｜tool▁calls▁begin｜>{}<｜tool▁calls▁end｜>"
MISTRAL_ID = '[TOOL_CALLS][{"name": "weather", "arguments": {"city": "Paris"}, "id": "a1b2c3d4e"}]'

# form, answer, content, calls, thought
CASES: list[tuple[str, str, str | None, list[Call], str | None]] = [
    ("hermes", "Hello.", "Hello.", [], None),
    ("hermes", HERMES, None, [W], None),
    ("hermes", f"Sure.\n{HERMES}\n{HERMES}", "Sure.", [W, W], None),
    ("hermes", f"<think>\nHm.\n</think>\n\n{HERMES}", None, [W], "Hm."),
    ("hermes", "<think>\n\n</think>\n\nHi.", "Hi.", [], None),
    ("hermes", HERMES.removesuffix("\n</tool_call>"), None, [W], None),
    ("hermes", "<think>only a thought", "", [], "only a thought"),
    ("qwen3_coder", "<tool_call>\n<function=weather>\n<parameter=city>\nParis\n</parameter>\n</function>\n</tool_call>",
     None, [W], None),
    ("qwen3_coder", "I look.\n<tool_call>\n<function=weather>\n<parameter=city>\n12\n</parameter>\n<parameter=days>\n3\n"
     "</parameter>\n<parameter=metric>\nTrue\n</parameter>\n<parameter=opts>\n{\"a\": [1, null]}\n</parameter>\n"
     "<parameter=tags>\n[\"x\", \"y z\"]\n</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=now>\n"
     "</function>\n</tool_call>", "I look.", [("weather", TYPED), NOW], None),
    ("qwen3_coder", "<function=weather>\n<parameter=city>\nParis\n</parameter>\n</function>\n</tool_call>", None, [W], None),
    ("qwen3_coder", "<tool_call>\n<function=weather>\n<parameter=city>\nline 1\nline 2\n</parameter>\n</function>",
     None, [("weather", {"city": "line 1\nline 2"})], None),
    ("qwen3_coder", HERMES, None, [W], None),
    ("glm", "\n<think></think>\n<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Paris</arg_value>\n</tool_call>",
     None, [W], None),
    ("glm", "<think>Hm.</think>\nOk.\n<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>12</arg_value>\n"
     "<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n<arg_key>metric</arg_key>\n<arg_value>true</arg_value>\n"
     "<arg_key>opts</arg_key>\n<arg_value>{\"a\": [1, null]}</arg_value>\n<arg_key>tags</arg_key>\n"
     "<arg_value>[\"x\", \"y z\"]</arg_value>\n</tool_call><tool_call>now\n</tool_call>",
     "Ok.", [("weather", TYPED), NOW], "Hm."),
    ("seed_oss", "<seed:think>Hm.</seed:think>\n<seed:tool_call>\n<function=weather>\n<parameter=city>Paris</parameter>\n"
     "</function>\n</seed:tool_call>", None, [W], "Hm."),
    ("minimax", '<think>\nHm.\n</think>\n\n<minimax:tool_call>\n<invoke name="weather">\n<parameter name="city">Paris'
     '</parameter>\n</invoke>\n<invoke name="now">\n</invoke>\n</minimax:tool_call>', None, [W, NOW], "Hm."),
    ("deepseek_v32", '<｜DSML｜function_calls>\n<｜DSML｜invoke name="weather">\n<｜DSML｜parameter name="city" string="true">'
     'Paris</｜DSML｜parameter>\n<｜DSML｜parameter name="days" string="false">3</｜DSML｜parameter>\n</｜DSML｜invoke>\n'
     "</｜DSML｜function_calls>", None, [("weather", {"city": "Paris", "days": 3})], None),
    ("deepseek", "Ok." + DS.format("<｜tool▁call▁begin｜>weather<｜tool▁sep｜>{\"city\": \"Paris\"}<｜tool▁call▁end｜>"),
     "Ok.", [W], None),
    ("deepseek", DS.format('<｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n{"city": "Paris"}\n```'
     '<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{}\n```<｜tool▁call▁end｜>'),
     None, [W, NOW], None),
    ("kimi_k2", "Ok.<|tool_calls_section_begin|><|tool_call_begin|>functions.weather:0<|tool_call_argument_begin|>"
     '{"city": "Paris"}<|tool_call_end|><|tool_call_begin|>functions.now:1<|tool_call_argument_begin|>{}<|tool_call_end|>'
     "<|tool_calls_section_end|>", "Ok.", [W, NOW], None),
    ("cohere", "<|START_THINKING|>Hm.<|END_THINKING|><|START_ACTION|>[\n    {\"tool_call_id\": \"0\", \"tool_name\": "
     '"weather", "parameters": {"city": "Paris"}}\n]<|END_ACTION|>', None, [W], "Hm."),
    ("cohere", "<|START_RESPONSE|>Four.<|END_RESPONSE|>", "Four.", [], None),
    ("mistral", MISTRAL_ID, None, [W], None),
    ("mistral", '[TOOL_CALLS]weather[ARGS]{"city": "Paris"}[TOOL_CALLS]now{}', None, [W, NOW], None),
    ("mistral", 'Ok.[TOOL_CALLS]weather[CALL_ID]a1b2c3d4e[ARGS]{"city": "Paris"}', "Ok.", [W], None),
    ("mistral", f"[THINK]Hm.[/THINK]Ok. {MISTRAL_ID}", "Ok.", [W], "Hm."),
    ("gemma4", '<|channel>thought\nHm.\n<channel|><|tool_call>call:weather{city:<|"|>12<|"|>,days:3,metric:true,'
     'opts:{a:[1,null]},tags:[<|"|>x<|"|>,<|"|>y z<|"|>]}<tool_call|>', None, [("weather", TYPED)], "Hm."),
    ("function_gemma", "<start_function_call>call:weather{city:<escape>Paris<escape>}<end_function_call>"
     "<start_function_call>call:now{}<end_function_call>", None, [W, NOW], None),
    ("granite", '<|tool_call|>[{"name": "weather", "arguments": {"city": "Paris"}}, {"name": "now", "arguments": {}}]',
     None, [W, NOW], None),
    ("lfm2", 'Ok.<|tool_call_start|>[weather(city="Paris"), now()]<|tool_call_end|>', "Ok.", [W, NOW], None),
    ("lfm2", "<|tool_call_start|>[weather(days=07, city='007 (08)', hours=[05, 0, 0.5, 10])]<|tool_call_end|>", None,
     [("weather", {"days": 7, "city": "007 (08)", "hours": [5, 0, 0.5, 10]})], None),
    ("lfm2", "<|tool_call_start|>[weather(city=\"12\", days=3, metric=True, opts={'a': [1, None]}, tags=['x', 'y z'])]"
     "<|tool_call_end|> Wait.", "Wait.", [("weather", TYPED)], None),
    ("olmo3", '<function_calls>\nweather(city="12", days=3, metric=true, opts={"a": [1, null]}, tags=["x", "y z"])\nnow()\n'
     "</function_calls>", None, [("weather", TYPED), NOW], None),
    ("pythonic", '[weather(city="Paris"), now()]', None, [W, NOW], None),
    ("pythonic", "<|python_start|>[weather(city='Paris')]<|python_end|>", None, [W], None),
    ("llama3_json", 'I look: {"name": "weather", "parameters": {"city": "}Paris"}} and {"name":"now", "parameters": {}}. Done.',
     "I look: and. Done.", [("weather", {"city": "}Paris"}), NOW], None),
    ("llama3_json", 'It is {"name": "other", "parameters": {}} and {"name": "weather", "parameters": .',
     'It is {"name": "other", "parameters": {}} and {"name": "weather", "parameters": .', [], None),
    ("pythonic", "I look: [weather(city='Paris', tags=['a]', \"b'\"])] and [now()]. Done.", "I look: and. Done.",
     [("weather", {"city": "Paris", "tags": ["a]", "b'"]}), NOW], None),
    ("pythonic", "[weather(city='Paris')] it is.", "it is.", [W], None),
    ("pythonic", "So [other(city='Paris')] and [weather(city=] are no calls.",
     "So [other(city='Paris')] and [weather(city=] are no calls.", [], None),
    ("pythonic", "[1] and [2] are footnotes of a long answer, which goes on and on and on.",
     "[1] and [2] are footnotes of a long answer, which goes on and on and on.", [], None),
    ("llama3_json", '{"name": "weather", "parameters": {"city": "Paris"}}', None, [W], None),
    ("llama3_json", '<|python_tag|>{"name": "weather", "parameters": {"city": "Paris"}}; {"name": "now", "parameters": {}}',
     None, [W, NOW], None),
    ("llama3_json", 'Ok.\n{"type": "function", "name": "weather", "arguments": {"city": "Paris"}}', "Ok.", [W], None),
    ("llama3_json", '{"answer": 4}', '{"answer": 4}', [], None),
    ("phi4", 'functools[{"name": "weather", "arguments": {"city": "Paris"}}, {"name": "now", "arguments": {}}]',
     None, [W, NOW], None),
    ("phi4", "{\"name\": \"weather\", \"arguments\": {'city': 'Paris'}}", None, [W], None),
    ("harmony", "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary to=functions.weather "
     '<|constrain|>json<|message|>{"city": "Paris"}', None, [W], "Hm."),
    ("harmony", ' to=functions.weather<|channel|>commentary json<|message|>{"city": "Paris"}', None, [W], None),
    ("harmony", "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Four.", "Four.", [],
     "Hm."),
    ("harmony", "Four.", "Four.", [], None),
    ("apertus", '<|tools_prefix|>[{"weather": {"city": "Paris"}}]<|tools_suffix|>', None, [W], None),
    ("nemotron", '<TOOLCALL>[{"name": "weather", "arguments": {"city": "Paris"}}]</TOOLCALL>', None, [W], None),
    ("jamba", '<tool_calls>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_calls>', None, [W], None),
    ("internlm", '<|action_start|><|plugin|>\n{"name": "weather", "parameters": {"city": "Paris"}}<|action_end|>', None, [W],
     None),
    ("step3", '<｜tool_calls_begin｜><｜tool_call_begin｜>function<｜tool_sep｜><steptml:invoke name="weather">'
     '<steptml:parameter name="city">Paris</steptml:parameter></steptml:invoke><｜tool_call_end｜><｜tool_calls_end｜>',
     None, [W], None),
    ("longcat", '<longcat_tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</longcat_tool_call>', None, [W],
     None),
    ("command_r", 'Action: ```json\n[\n  {"tool_name": "weather", "parameters": {"city": "Paris"}}\n]```', None, [W], None),
    ("phi4", "{\"name\": \"now\", \"arguments\": {}},{\"name\": \"weather\", \"arguments\": {'city': 'Paris'}}", None, [NOW, W],
     None),
    ("muse", '<atem:function_calls>\n<atem:invoke name="weather">\n<atem:parameter name="city">Paris</atem:parameter>\n'
     "</atem:invoke>\n</atem:function_calls>", None, [W], None),
    ("functionary", '<function=weather>{"city": "Paris"}</function>', None, [W], None),
]  # fmt: skip


def numbered() -> list[str]:
    return [f"{name}-{number}" for number, (name, *_) in enumerate(CASES)]


def read(parsed: ParsedReply) -> list[Call]:
    return [(call.name, json.loads(call.arguments)) for call in parsed.calls]


def joined(parts: list[ReplyPart]) -> tuple[str, str, list[tuple[str, str]]]:
    calls = [call for part in parts for call in part.calls]
    whole = [
        (one.name, "".join(call.arguments for call in calls if call.index == one.index))
        for one in calls
        if one.name is not None
    ]
    return "".join(part.text for part in parts), "".join(part.reasoning for part in parts), whole


def in_pieces(form: str, tools: tuple[Tool, ...], begun: str, answer: str, step: int) -> tuple[str, str, list[Call]]:
    """Text, thought and calls of an answer that comes `step` characters at a time; 0: at once."""
    reader = answer_reader(BY_NAME[form], tools, with_calls=True, begun=begun)
    pieces = [answer[at : at + step] for at in range(0, len(answer), step)] if step else [answer]
    text, thought, found = joined([*map(reader.add, pieces), reader.finish()])
    return text, thought, [(name, json.loads(arguments)) for name, arguments in found]


@pytest.mark.parametrize(("form", "answer", "content", "calls", "thought"), CASES, ids=numbered())
def test_an_answer_is_read(form: str, answer: str, content: str | None, calls: list[Call], thought: str | None) -> None:
    parsed = parse_reply(answer, answer_reader(BY_NAME[form], TOOLS, with_calls=True))
    assert (parsed.content, read(parsed), parsed.reasoning) == (content, calls, thought)


@pytest.mark.parametrize(("form", "answer", "content", "calls", "thought"), CASES, ids=numbered())
def test_it_is_read_alike_in_pieces(
    form: str, answer: str, content: str | None, calls: list[Call], thought: str | None
) -> None:
    parsed = parse_reply(answer, answer_reader(BY_NAME[form], TOOLS, with_calls=True))
    choose = random.Random(answer)
    for longest in (1, 2, 5, 17):
        reader = answer_reader(BY_NAME[form], TOOLS, with_calls=True)
        parts, at = [], 0
        while at < len(answer):
            length = choose.randint(1, longest)
            parts.append(reader.add(answer[at : at + length]))
            at += length
        parts.append(reader.finish())
        text, reasoning, found = joined(parts)
        assert found == [(call.name, call.arguments) for call in parsed.calls]
        assert (text, reasoning) == (parsed.content or "", parsed.reasoning or "")


BROKEN = [
    ("qwen3_coder", "<tool_call>\nnot a call\n</tool_call>"),
    ("glm", "<tool_call>two words\n</tool_call>"),
    ("cohere", "<|START_ACTION|>[{broken]<|END_ACTION|>"),
    ("mistral", "[TOOL_CALLS][{broken]"),
    ("lfm2", "<|tool_call_start|>[weather(city=]<|tool_call_end|>"),
    ("olmo3", "<function_calls>\nno call here\n</function_calls>"),
    ("granite", "<|tool_call|>[{broken]"),
    ("llama3_json", '{"name": "weather", "parameters": {"city": '),
    ("hermes", "<tool_call>\nnot a call\n</tool_call>"),
    ("gemma4", "<|tool_call>call:weather{city<tool_call|>"),
    ("kimi_k2", "<|tool_call_begin|>weather<|tool_call_end|>"),
]


@pytest.mark.parametrize(("form", "answer"), BROKEN, ids=[name for name, _ in BROKEN])
def test_what_cannot_be_read_is_content(form: str, answer: str) -> None:
    parsed = parse_reply(answer, answer_reader(BY_NAME[form], TOOLS, with_calls=True))
    assert (parsed.content, parsed.calls) == (answer, ())


def test_a_call_after_a_broken_one_is_read() -> None:
    broken = "<|START_ACTION|>[{broken]<|END_ACTION|>"
    answer = f'{broken}<|START_ACTION|>[{{"tool_name": "now", "parameters": {{}}}}]<|END_ACTION|>'
    parsed = parse_reply(answer, answer_reader(BY_NAME["cohere"], TOOLS, with_calls=True))
    assert (parsed.content, read(parsed)) == (broken, [NOW])


def test_a_mark_within_a_string_does_not_end_a_call() -> None:
    arguments = {"city": "a <|END_ACTION|> b"}
    answer = f'<|START_ACTION|>[{{"tool_name": "weather", "parameters": {json.dumps(arguments)}}}]<|END_ACTION|>'
    parsed = parse_reply(answer, answer_reader(BY_NAME["cohere"], TOOLS, with_calls=True))
    assert read(parsed) == [("weather", arguments)]


@pytest.mark.parametrize("form", ["hermes", "mistral", "lfm2", "llama3_json"])
def test_without_calls_an_answer_is_text(form: str) -> None:
    answer = next(answer for name, answer, _, calls, thought in CASES if name == form and calls and thought is None)
    parsed = parse_reply(answer, answer_reader(BY_NAME[form], (), with_calls=False))
    assert parsed.calls == ()
    assert "weather" in (parsed.content or "")


@pytest.mark.parametrize("again", ["", "<think>\n"], ids=["goes-on", "begins-anew"])
def test_a_thought_that_the_prompt_began(again: str) -> None:
    reader = answer_reader(BY_NAME["hermes"], TOOLS, with_calls=True, begun="<|im_start|>assistant\n<think>\n")
    parsed = parse_reply(f"{again}Hm.\n</think>\n\n{HERMES}", reader)
    assert (parsed.reasoning, parsed.content, read(parsed)) == ("Hm.", None, [W])


@pytest.mark.parametrize(
    ("call", "template", "expected"),
    [
        ('<tool_call>\n{"name": "probe_tool", "arguments": {}}\n</tool_call>', "", "hermes"),
        ("<tool_call>probe_tool\n<arg_key>a</arg_key>", "", "glm"),
        ("<tool_call>\n<function=probe_tool>", "", "qwen3_coder"),
        ('{"name": "probe_tool", "parameters": {}}', "", "llama3_json"),
        ('{"name": "probe_tool", "arguments": {}}', "prefix function calls with functools", "phi4"),
        ("", "tools are called with <|tool_call|>", "granite"),
        ("", "no word of it", "hermes"),
    ],
    ids=["hermes", "glm", "qwen3_coder", "llama3_json", "phi4", "granite", "unknown"],
)
def test_the_form_is_what_a_template_writes(call: str, template: str, expected: str) -> None:
    assert form_of(call, template).name == expected


@pytest.mark.parametrize("answer", ["[get-it(a='x-y(', b=1), now()]", 'weather.call(city="a-b(c)")'])
def test_names_that_python_does_not_know(answer: str) -> None:
    parsed = parse_reply(
        f"<|tool_call_start|>{answer}<|tool_call_end|>", answer_reader(BY_NAME["lfm2"], (), with_calls=True)
    )
    expected = [("get-it", {"a": "x-y(", "b": 1}), NOW] if "get-it" in answer else [("weather", {"city": "a-b(c)"})]
    assert read(parsed) == expected


def test_a_block_of_many_ends_is_given_up() -> None:
    import time

    answer = "<tool_call>" + "x </tool_call>" * 5000
    start = time.process_time()
    parsed = parse_reply(answer, answer_reader(BY_NAME["glm"], TOOLS, with_calls=True))
    assert (parsed.content, parsed.calls) == (answer, ())
    assert time.process_time() - start < 2


PIECES = (
    "Hi ", "\n", "{", HERMES, '{"name": "weather", "arguments": {"city": "P"}}', "weather(city='x')", "[", "]", "}", ",",
    "<function=weather>", "<parameter=city>", "</parameter>", "</function>", "weather", "call:weather{city:1}", "x", "<",
)  # fmt: skip


@pytest.mark.parametrize("name", BY_NAME)
def test_any_text_is_read_alike_in_pieces(name: str) -> None:
    form, choose = BY_NAME[name], random.Random(name)
    for _ in range(40):
        answer = "".join(choose.choice((*PIECES, *form.marks, *form.marks)) for _ in range(choose.randint(1, 12)))
        with_calls, begun = choose.random() < 0.8, choose.choice(["", form.thinks[0][0] + "\n"])
        whole = answer_reader(form, TOOLS, with_calls=with_calls, begun=begun)
        expected = joined([whole.add(answer), whole.finish()])
        reader = answer_reader(form, TOOLS, with_calls=with_calls, begun=begun)
        parts, at = [], 0
        while at < len(answer):
            length = choose.choice((1, 2, 3, 7))
            parts.append(reader.add(answer[at : at + length]))
            at += length
        assert joined([*parts, reader.finish()]) == expected, answer
