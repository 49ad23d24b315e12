"""What a worker reads of a trainer: complete lines, and the end of its log."""

from pathlib import Path

from tunesmith.launch.output import LOG_TAIL_BYTES, LineReader, log_tail


def test_a_reader_waits_for_the_end_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "events"
    reader = LineReader(path)
    assert list(reader.read()) == []
    path.write_text('{"a": 1}\n{"b"')
    assert list(reader.read()) == [{"a": 1}]
    with path.open("a") as file:
        file.write(': "天"}\nnot json\n[1]\n{"c": 3}\n')
    assert list(reader.read()) == [{"b": "天"}, {"c": 3}]
    assert list(reader.read()) == []


def test_the_end_of_a_long_log_is_quoted(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert log_tail(path) == ""
    path.write_text("x" * 10_000 + "\nMemoryError\n")
    assert log_tail(path).endswith("MemoryError")
    assert len(log_tail(path)) <= LOG_TAIL_BYTES
