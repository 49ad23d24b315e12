"""Chat rows to measure the check with: the same file for the same seed and size, on any machine.

The prose is Python's own language reference, which every installation carries, so that nothing is downloaded and the
words are real. The mix: 56 % one turn under a short system message, 20 % several turns, 8 % under one long system
message, 8 % tool calls with declarations, 8 % not English. A tenth of the rows has its non-ASCII text escaped.
"""

import json
import random
from pathlib import Path
from pydoc_data.topics import topics

SYSTEMS = [
    "You are a helpful assistant.",
    "You answer questions about Python.",
    "Be brief.",
    "You are a code reviewer.",
]
FOREIGN = [
    "今天北京的天气晴朗,适合出门散步。请记得多喝水,并且带上一把伞,因为晚上可能会下雨。",
    "Die Prüfung der Daten ist wichtiger als das Modell; wer das übersieht, zahlt zweimal.",
    "Le modèle apprend ce que vous lui montrez, ni plus ni moins, même vos fautes.",
    "Завтра ожидается дождь, поэтому возьмите зонт и не опаздывайте на поезд.",
    "データが正しければ、学習はほとんど自動的に進みます。",
    "Los datos malos cuestan más que una máquina lenta, y nadie los revisa.",
]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a place on a day.",
        "parameters": {
            "type": "object",
            "properties": {"place": {"type": "string"}, "day": {"type": "string"}, "celsius": {"type": "boolean"}},
            "required": ["place"],
        },
    },
}


def write_rows(path: Path, size: int, seed: int = 0) -> int:
    """Writes about `size` bytes of rows; how many rows there are."""
    maker, rows, written = _Maker(seed), 0, 0
    with path.open("wb") as file:
        while written < size:
            line = json.dumps(maker.row(rows), ensure_ascii=rows % 10 == 0).encode() + b"\n"
            file.write(line)
            written += len(line)
            rows += 1
    return rows


class _Maker:
    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        text = "\n".join(topics.values())
        self._sentences = [s.strip() for s in text.replace("\n", " ").split(". ") if 20 < len(s.strip()) < 400]
        self._long = self._prose(24)

    def row(self, number: int) -> dict[str, object]:
        kind = self._random.random()
        if kind < 0.08:
            return self._tool_row(number)
        if kind < 0.16:
            return {"messages": self._turns(self._long, 1)}
        if kind < 0.24:
            foreign = self._random.choices(FOREIGN, k=self._random.randint(2, 12))
            return {"messages": self._turns(foreign[0], 1, " ".join(foreign))}
        turns = 1 if kind < 0.8 else self._random.randint(2, 5)
        return {"messages": self._turns(self._random.choice(SYSTEMS), turns)}

    def _prose(self, sentences: int) -> str:
        return ". ".join(self._random.choices(self._sentences, k=sentences)) + "."

    def _turns(self, system: str, turns: int, answer: str | None = None) -> list[dict[str, object]]:
        messages: list[dict[str, object]] = [{"role": "system", "content": system}]
        for _ in range(turns):
            messages.append({"role": "user", "content": self._prose(self._random.randint(1, 3))})
            messages.append({"role": "assistant", "content": answer or self._prose(self._random.randint(1, 9))})
        return messages

    def _tool_row(self, number: int) -> dict[str, object]:
        call = {
            "name": "get_weather",
            "arguments": json.dumps({"place": self._random.choice("ABCDE"), "celsius": True}),
        }
        messages: list[dict[str, object]] = [
            {"role": "user", "content": self._prose(1)},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": f"c{number}", "type": "function", "function": call}],
            },
            {"role": "tool", "tool_call_id": f"c{number}", "content": json.dumps({"degrees": number % 40})},
            {"role": "assistant", "content": self._prose(2)},
        ]
        return {"messages": messages, "tools": [TOOL]}
