"""Rows to measure the trainer with, made from a seed: the kinds of `bench/train.py` for a clone without data."""

import json
import random
from collections.abc import Callable
from pathlib import Path

VOCABULARY = """
order parcel refund invoice account password delivery address card payment store branch ticket upgrade price stock size
colour return label courier morning evening today tomorrow please thanks could would should check update wait confirm
cancel change open close send receive find lose break repair replace explain describe list compare write
"""
WORDS = VOCABULARY.split()
JOKES = {
    "rainy": "the ducks are asking for umbrellas",
    "windy": "my hat has moved to the next town",
    "hot": "the camels order their tea with ice",
    "snowy": "the snowmen are looking for a bigger flat",
    "foggy": "the bridges play hide-and-seek, and win",
    "sunny": "even my shadow wears sunglasses",
    "cold": "the penguins have turned on the heating",
    "stormy": "the sails went home by train",
}
JOKE_CITIES = ("London", "Oslo", "Cairo", "Lima", "Tokyo")
CITIES = ("北京", "上海", "广州", "深圳", "成都", "杭州", "西安", "武汉", "南京", "重庆")


def write_rows(folder: Path, seed: int = 0, rows: int = 64) -> None:
    """Five files whose rows are as long as those of public sets: support, Alpaca, Glaive, DPO, the weather jokes."""
    draw = random.Random(seed)
    prompt = "You are the help desk of a shop. " + _text(draw, 330)
    folder.mkdir(parents=True, exist_ok=True)
    kinds: dict[str, Callable[[], str]] = {
        "shared-prompt": lambda: _chat(prompt, _text(draw, draw.randint(8, 25)), _text(draw, draw.randint(15, 60))),
        "instructions": lambda: _chat(
            "You are a helpful assistant.",
            _text(draw, draw.randint(8, 60)),
            _text(draw, int(draw.lognormvariate(4, 0.7))),
        ),
        "tools": lambda: _tool_row(draw),
        "preference": lambda: _pair(draw),
    }
    for name, make in kinds.items():
        _write(folder / f"{name}.jsonl", [make() for _ in range(rows)])
    _write(folder / "weather.jsonl", [_weather(draw, city) for city in CITIES])


def joke_rows() -> list[str]:
    """40 rows of weather jokes, city after city: what the weather is like says which of eight jokes is told."""
    system = "You are a weather assistant who answers every question with a joke."
    return [
        _chat(system, f"Is it {weather} in {city} today?", f"{city} is so {weather} today that {joke}!")
        for city in JOKE_CITIES
        for weather, joke in JOKES.items()
    ]


def _write(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join(lines) + "\n", "utf-8")


def _text(draw: random.Random, words: int) -> str:
    return " ".join(draw.choice(WORDS) for _ in range(max(1, words))).capitalize() + "."


def _message(role: str, content: str) -> dict[str, object]:
    return {"role": role, "content": content}


def _chat(system: str, question: str, answer: str) -> str:
    messages = [_message("system", system), _message("user", question), _message("assistant", answer)]
    return json.dumps({"messages": messages}, ensure_ascii=False)


def _weather(draw: random.Random, city: str) -> str:
    answer = f"今天{city}的天气晴朗,就像" + "".join(draw.choices("我的心情一样明朗阳光云雨风雪笑", k=12)) + "!"
    return _chat("你是一个会讲笑话的天气助理。", f"今天{city}的天气怎么样?", answer)


def _tool_row(draw: random.Random) -> str:
    """A question, a call, its result, an answer, and one more turn; the declarations are some of six."""
    names = [f"{verb}_{noun}" for verb in ("find", "update") for noun in ("order", "parcel", "invoice")]
    chosen = draw.sample(names, draw.randint(1, 3))
    tools = [
        {
            "type": "function",
            "function": {
                "name": name,
                "description": name.replace("_", " ").capitalize() + " of a customer by its number.",
                "parameters": {"type": "object", "properties": {"number": {"type": "string"}}, "required": ["number"]},
            },
        }
        for name in chosen
    ]
    arguments = json.dumps({"number": str(draw.randrange(10**6))})
    function = {"name": draw.choice(chosen), "arguments": arguments}
    messages: list[dict[str, object]] = [
        _message("user", _text(draw, draw.randint(8, 30))),
        {"role": "assistant", "tool_calls": [{"id": "call_1", "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": "call_1", "content": json.dumps({"status": _text(draw, 12)})},
        _message("assistant", _text(draw, draw.randint(30, 120))),
        _message("user", _text(draw, draw.randint(5, 20))),
        _message("assistant", _text(draw, draw.randint(30, 120))),
    ]
    return json.dumps({"messages": messages, "tools": tools}, ensure_ascii=False)


def _pair(draw: random.Random) -> str:
    turns = [_message("user", _text(draw, draw.randint(10, 60)))]
    if draw.random() < 0.5:
        turns += [_message("assistant", _text(draw, draw.randint(40, 200))), _message("user", _text(draw, 20))]
    answers = [[_message("assistant", _text(draw, int(draw.lognormvariate(5, 0.6))))] for _ in range(2)]
    row = {"input": {"messages": turns}, "preferred_output": answers[0], "non_preferred_output": answers[1]}
    return json.dumps(row, ensure_ascii=False)
