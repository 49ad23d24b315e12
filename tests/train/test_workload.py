"""What a trainer will compute, beside what it packs."""

import json
from pathlib import Path

from tunesmith.estimate.speed import Workload
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.render.renderer import Renderer
from tunesmith.rows.row import ChatRow, parse_row
from tunesmith.train.core.packing import TokenRow, pack
from tunesmith.train.workload import workload


def test_the_workload_is_what_the_trainer_will_pack(renderer: Renderer, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    turns: list[JsonValue] = [
        {"role": "system", "content": "You are kind. " * 30},
        {"role": "user", "content": "Hello there"},
    ]
    rows: list[JsonObject] = [
        {"messages": [*turns, {"role": "assistant", "content": f"Answer {number}"}]} for number in range(12)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    rendered = [renderer.row(parse_chat(row)) for row in rows]
    lengths = [len(one.ids) for one in rendered]
    alone = workload(path, renderer, method="supervised", max_tokens=None, batch_size=1, epoch_tokens=sum(lengths))
    assert alone == Workload(sum(lengths), max(lengths))
    shared = workload(path, renderer, method="supervised", max_tokens=None, batch_size=6, epoch_tokens=sum(lengths))
    packed = pack([TokenRow(tuple(one.ids), tuple(one.weights)) for one in rendered]).length
    assert 2 * max(lengths) < shared.tokens < 2 * packed
    assert max(lengths) < shared.largest < packed
    twice = workload(path, renderer, method="supervised", max_tokens=None, batch_size=6, epoch_tokens=2 * sum(lengths))
    assert twice.tokens == 2 * shared.tokens


def parse_chat(value: JsonValue) -> ChatRow:
    row = parse_row(value)
    assert isinstance(row, ChatRow)
    return row
