from hypothesis import given
from hypothesis import strategies as st

from tunesmith.serve.chat.stops import StopFilter

letters = st.text("abn\n", max_size=12)


def run(stops: list[str], pieces: list[str]) -> str:
    stop_filter = StopFilter(stops)
    return "".join([stop_filter.add(piece) for piece in pieces]) + stop_filter.flush()


def test_a_stop_string_across_pieces_is_never_shown() -> None:
    stop_filter = StopFilter(["\n\nUser:"])
    assert [stop_filter.add(piece) for piece in ("Hi", "\n", "\nUs", "er", ": me")] == ["Hi", "", "", "", ""]
    assert stop_filter.stopped
    assert stop_filter.flush() == ""


def test_a_false_start_is_shown_once_it_is_one() -> None:
    stop_filter = StopFilter(["STOP"])
    assert [stop_filter.add(piece) for piece in ("ST", "ST", "ART")] == ["", "ST", "START"]


def test_the_earliest_of_several_stops_wins() -> None:
    assert run(["d", "b"], ["abcd"]) == "a"


@given(st.lists(letters, max_size=6), st.lists(letters.filter(bool), max_size=3))
def test_pieces_never_matter_to_what_stays_hidden(pieces: list[str], stops: list[str]) -> None:
    text = "".join(pieces)
    shown = run(stops, pieces)
    assert text.startswith(shown)
    assert not any(stop in shown for stop in stops)
    if not any(stop in text for stop in stops):
        assert shown == text
