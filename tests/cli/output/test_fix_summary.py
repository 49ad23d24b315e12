"""What `fix` did, and the mask preview, in a terminal."""

import json
from pathlib import Path

import pytest
from tests.cli.conftest import JOKES
from tests.cli.output.conftest import Printed, widest, words

from tunesmith.check.fix.fixed_file import fix_file
from tunesmith.check.report.mask_preview import Preview, Span, preview_rows
from tunesmith.cli.bases import LocalBase
from tunesmith.cli.output.fix_summary import print_fix
from tunesmith.cli.output.mask import print_mask

ROW = json.dumps({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}) + "\n"
EMPTY = json.dumps({"messages": []}) + "\n"


@pytest.mark.parametrize("width", [40, 80, 200])
def test_fix_counts_what_was_fixed_removed_and_left(printed: Printed, tmp_path: Path, width: int) -> None:
    source, target = tmp_path / "rows.jsonl", tmp_path / "fixed.jsonl"
    renamed = ROW.replace('"assistant"', '"bot"').replace("Hello", "Yes")
    source.write_text(ROW + ROW + "\n" + renamed + "{broken\n")
    shown = printed(width, print_fix, fix_file(source, target), source, target, 5)
    assert widest(shown) <= width
    said = words(shown)
    assert "2 of 4 rows" in said
    assert "removed 1 duplicate row, 1 blank line" in said
    assert "fixed 1 x renamed old roles" in said
    assert "not fixed 1 row, kept in" in said
    assert "line 5" in said


def test_fix_of_a_sound_file_says_no_more_than_the_count(printed: Printed, tmp_path: Path) -> None:
    source, target = tmp_path / "rows.jsonl", tmp_path / "[odd] name.jsonl"
    source.write_text(ROW)
    assert words(printed(200, print_fix, fix_file(source, target), source, target, 5)) == (
        f"{target} 1 of 1 rows (nothing to fix: a copy)"
    )


def test_learned_text_is_marked_and_the_rest_is_not(printed: Printed, local: LocalBase) -> None:
    assert local.renderer is not None
    said = printed(200, print_mask, preview_rows(JOKES, local.renderer, 2))
    assert "The model learns the text in ⟦green⟧; it only reads the rest." in said
    assert said.count("⟦") == said.count("⟧") == 3  # the sentence above, and an answer a row
    assert "line 1\n" in said
    assert "line 2\n" in said
    assert "umbrellas!<|im_end|>⟧" in said


def test_notes_titles_and_cut_tokens_are_shown(printed: Printed) -> None:
    previews = [
        Preview(3, "preferred", (Span(False, ("[bold]q", "\x1b[2J")), Span(True, ("a",))), cut_tokens=1200),
        Preview(9, "", (), note="The row is broken."),
    ]
    said = printed(80, print_mask, previews)
    assert "line 3 (preferred)\n[bold]q␛[2J⟦a⟧\n… 1,200 tokens cut off at the limit" in said
    assert "line 9\nThe row is broken." in said


def test_learned_text_is_green_in_a_terminal_with_colours(printed: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    said = printed(80, print_mask, [Preview(1, "", (Span(False, ("q",)), Span(True, ("a",))))])
    assert "\x1b[2mq\x1b[0m" in said
    assert "\x1b[32m⟦a⟧\x1b[0m" in said
