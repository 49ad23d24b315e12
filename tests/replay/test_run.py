"""Runs against a teacher that fails, stalls and limits."""

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from tests.replay.upstream import Reply, Rule, Teacher, completion, error, teaching

from tunesmith.errors import DataError
from tunesmith.jsonvalue import JsonObject
from tunesmith.replay import upstream as upstream_module
from tunesmith.replay.journal import Asked, Journal
from tunesmith.replay.run import Cost, Plan, Progress, Replay, Written, write_rows
from tunesmith.replay.upstream import Address, Upstream, UpstreamStopped

BROKEN_CALL: JsonObject = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{"}}
KEY = "sk-secret-of-the-test"


@dataclass(frozen=True, slots=True)
class Result:
    progress: Progress
    written: Written
    rows: list[JsonObject]
    stopped: str | None
    spent: float


@dataclass(slots=True)
class Case:
    """A file of `count` prompts and everything a run needs."""

    folder: Path
    count: int = 20
    parameters: JsonObject | None = None
    cost: Cost | None = None
    cap: float | None = None
    concurrency: int = 4
    timeout: float = 5.0

    @property
    def file(self) -> Path:
        file = self.folder / "rows.jsonl"
        file.write_text("".join(json.dumps({"prompt": f"q{n}"}) + "\n" for n in range(self.count)), "utf-8")
        return file

    @property
    def output(self) -> Path:
        return self.folder / "out.jsonl"

    def run(self, teacher: Teacher) -> Result:
        parameters = self.parameters or {}
        address = Address(teacher.url, KEY, timeout=self.timeout)
        plan = Plan(
            self.file, "teacher", parameters, "o200k_base", 50, self.cost, self.cap, concurrency=self.concurrency
        )
        stopped = None
        with Journal(self.folder / "journal", Asked("teacher", address.host, parameters)) as journal:
            replay = Replay(plan, journal, Upstream(address), lambda _: None)
            try:
                asyncio.run(replay.run())
            except UpstreamStopped as error:
                stopped = error.message
            written = write_rows(plan.file, journal, self.output)
            spent = journal.spent
        rows = [json.loads(line) for line in self.output.read_text("utf-8").splitlines()] if written.rows else []
        return Result(replay.progress, written, rows, stopped, spent)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """The waits of our own choice, a hundred times shorter; what a server asks for is waited in full."""
    monkeypatch.setattr(upstream_module, "FIRST_WAIT", 0.01)


def texts(rows: list[JsonObject]) -> list[str]:
    return [row["messages"][-1]["content"] for row in rows]  # type: ignore[call-overload,index,misc]


def test_rows_come_in_order_with_their_provenance(tmp_path: Path) -> None:
    case = Case(tmp_path, parameters={"temperature": 0.5})
    with teaching(lambda text, _: Reply(200, completion(text), stall=0.05 if text == "q0" else 0.0)) as teacher:
        result = case.run(teacher)
    assert texts(result.rows) == [f"re: q{n}" for n in range(20)]
    metadata = result.rows[3]["metadata"]
    assert isinstance(metadata, dict)
    assert metadata["teacher"] == "teacher-1"
    assert metadata["parameters"] == {"temperature": 0.5}
    assert metadata["finish_reason"] == "stop"
    assert metadata["upstream"] == f"127.0.0.1:{teacher.port}"
    assert str(metadata["time"]).endswith("Z")
    assert teacher.bodies[0]["temperature"] == 0.5
    assert set(teacher.keys) == {f"Bearer {KEY}"}


def test_key_is_written_nowhere(tmp_path: Path) -> None:
    with teaching(lambda text, _: error(400, f"bad key {KEY}") if text == "q3" else None) as teacher:
        result = Case(tmp_path).run(teacher)
    assert result.written.refused == ((4, f"127.0.0.1:{teacher.port} answered 400: bad key …."),)
    assert all(KEY not in path.read_text("utf-8") for path in tmp_path.iterdir())


def test_no_more_rows_are_under_way_than_asked_for(tmp_path: Path) -> None:
    with teaching(lambda text, _: Reply(200, completion(text), stall=0.02)) as teacher:
        Case(tmp_path, concurrency=3).run(teacher)
    assert teacher.most == 3


@pytest.mark.parametrize(
    "reply", [error(500, "oh"), error(503, "busy"), Reply(hang_up=True), Reply(200, "no")], ids=repr
)
def test_passing_faults_are_asked_again_with_the_same_idempotency_key(tmp_path: Path, reply: Reply) -> None:
    with teaching(lambda text, times: reply if times < 2 and text in ("q1", "q5") else None) as teacher:
        result = Case(tmp_path).run(teacher)
    assert result.written.rows == 20
    assert teacher.asked == Counter({f"q{n}": 3 if n in (1, 5) else 1 for n in range(20)})
    assert all(len(keys) == 1 for keys in teacher.idempotency.values())
    assert len({next(iter(keys)) for keys in teacher.idempotency.values()}) == 20


def test_stall_is_asked_again(tmp_path: Path) -> None:
    rule: Rule = lambda text, times: Reply(200, completion(text), stall=2.0) if text == "q1" and not times else None  # noqa: E731
    with teaching(rule) as teacher:
        result = Case(tmp_path, timeout=0.3).run(teacher)
    assert result.written.rows == 20
    assert teacher.asked["q1"] == 2


@pytest.mark.parametrize("header", [{"retry_after": "1"}, {"retry_after_ms": "900"}], ids=["seconds", "milliseconds"])
def test_limit_is_waited_for_by_every_row(tmp_path: Path, header: dict[str, str]) -> None:
    seen: list[float] = []

    def rule(text: str, times: int) -> Reply | None:
        seen.append(time.monotonic())
        return error(429, "slow down", **header) if text == "q2" and not times else None

    with teaching(rule) as teacher:
        result = Case(tmp_path, concurrency=2).run(teacher)
    assert result.written.rows == 20
    assert teacher.asked["q2"] == 2
    gaps = [after - before for before, after in pairwise(seen)]
    assert 0.8 < max(gaps) < 3.0  # both tasks stood still for the second
    assert result.progress.tally.limited == 1


def test_one_row_may_be_limited_more_often_than_it_may_fail(tmp_path: Path) -> None:
    with teaching(lambda text, times: error(429, "", retry_after_ms="1") if times < 12 else None) as teacher:
        result = Case(tmp_path, count=2).run(teacher)
    assert result.written.rows == 2
    assert teacher.asked == {"q0": 13, "q1": 13}


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (error(401, "wrong key"), "OPENAI_API_KEY"),
        (error(404, "no such model"), "--teacher"),
        (error(429, "pay", "insufficient_quota"), "no credit left"),
        (error(429, "tomorrow", retry_after="86400"), "asks to wait 86,400 s"),
        (Reply(302, None, {"location": "https://elsewhere.example/v1"}), "name that address as --upstream"),
        (error(400, "unknown parameter"), "Each of the first 5 rows was refused"),
        (error(500, "down"), "did not answer in 8 tries"),
    ],
    ids=["key", "model", "credit", "wait", "redirect", "parameter", "down"],
)
def test_what_no_row_can_pass_stops_the_run_early(tmp_path: Path, reply: Reply, said: str) -> None:
    with teaching(lambda *_: reply) as teacher:
        result = Case(tmp_path, concurrency=1).run(teacher)
    assert result.stopped is not None
    assert said in result.stopped
    assert sum(teacher.asked.values()) <= 8
    assert result.written.rows == 0
    assert not (tmp_path / "out.jsonl").exists()


def test_answers_under_way_are_kept_when_the_run_stops(tmp_path: Path) -> None:
    def rule(text: str, times: int) -> Reply | None:
        return error(401, "revoked") if text == "q0" else Reply(200, completion(text), stall=0.2)

    with teaching(rule) as teacher:
        result = Case(tmp_path).run(teacher)
    assert texts(result.rows) == ["re: q1", "re: q2", "re: q3"]
    assert result.written.missing == 17


def test_answers_of_another_upstream_are_not_mixed_in(tmp_path: Path) -> None:
    case = Case(tmp_path, count=3)
    with teaching() as teacher:
        case.run(teacher)
    with teaching() as other, pytest.raises(DataError, match="another replay"):
        case.run(other)
    assert not other.asked


def test_same_upstream_goes_on_where_it_was(tmp_path: Path) -> None:
    case, open_now = Case(tmp_path, count=10, concurrency=1), [False]
    with teaching(lambda text, _: error(403, "not yet") if text == "q7" and not open_now[0] else None) as teacher:
        assert case.run(teacher).written.missing == 3
        open_now[0] = True
        case.count = 12  # rows may be added
        result = case.run(teacher)
    assert texts(result.rows) == [f"re: q{n}" for n in range(12)]
    assert teacher.answered == Counter({f"q{n}": 1 for n in range(12)})


@pytest.mark.parametrize(
    ("message", "finish", "said"),
    [
        ({"content": "half"}, "length", "--max-tokens"),
        ({"content": "ha"}, "content_filter", "content filter"),
        ({"content": None, "refusal": "I can't"}, "stop", "refused: I can't"),
        ({"content": " "}, "stop", "empty"),
        ({"content": None, "tool_calls": [BROKEN_CALL]}, "tool_calls", "arguments"),
    ],
    ids=["length", "filter", "refusal", "empty", "arguments"],
)
def test_answer_that_should_not_be_learned_is_named(
    tmp_path: Path, message: JsonObject, finish: str, said: str
) -> None:
    def rule(text: str, _: int) -> Reply | None:
        answer = completion(text, **message)
        answer["choices"][0]["finish_reason"] = finish  # type: ignore[index,call-overload]
        return Reply(200, answer) if text == "q1" else None

    with teaching(rule) as teacher:
        result = Case(tmp_path, count=3).run(teacher)
    assert texts(result.rows) == ["re: q0", "re: q2"]
    ((line, why),) = result.written.refused
    assert line == 2
    assert said in why


def test_cap_is_never_passed(tmp_path: Path) -> None:
    def cost(prompt: int, cached: int, completion: int) -> float:
        return (prompt + 10 * completion) / 1000

    # An answer costs 0.2 by the upstream's count; 0.5 and the prompt are reserved for its 50 tokens.
    case = Case(tmp_path, cost=cost, cap=1.0, concurrency=2)
    with teaching() as teacher:
        result = case.run(teacher)
        assert result.progress.capped
        assert 0.4 <= result.spent <= 1.0
        assert sum(teacher.asked.values()) == result.written.rows == round(result.spent / 0.2)
        again = case.run(teacher)  # what was spent counts
        assert again.spent == result.spent
        case.cap = 100.0
        whole = case.run(teacher)
    assert whole.written.rows == 20
    assert whole.spent == pytest.approx(4.0)
    assert max(teacher.asked.values()) == 1
