"""Writes the table of codes in docs/dataset-format.md from the codes themselves: `python scripts/dataset_codes.py`.

A test holds the two together.
"""

from collections.abc import Iterator
from pathlib import Path

from tunesmith.rows.codes import FILE_CODES, MESSAGE_CODES, RISK_CODES, ROW_CODES, TEXT_CODES, TOOL_CODES, Code

TARGET = Path(__file__).resolve().parents[1] / "docs" / "dataset-format.md"
START, END = "<!-- codes: written by `python scripts/dataset_codes.py` -->", "<!-- end of codes -->"
GROUPS: dict[str, dict[str, Code]] = {
    "The file": FILE_CODES,
    "A row": ROW_CODES,
    "A message": MESSAGE_CODES,
    "Tools": TOOL_CODES,
    "Texts": TEXT_CODES,
    "Risks": RISK_CODES,
}


def page(current: str) -> str:
    """`current` with its table of codes renewed."""
    before, _, rest = current.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n{''.join(_tables())}\n{END}{after}"


def _tables() -> Iterator[str]:
    for title, codes in GROUPS.items():
        yield f"\n**{title}**\n\n| code | | meaning | how to fix it |\n| --- | --- | --- | --- |\n"
        for name, code in codes.items():
            yield f"| `{name}` | {code.severity} | {_cell(code.meaning)} | {_cell(code.fix)} |\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    TARGET.write_text(page(TARGET.read_text(encoding="utf-8")), encoding="utf-8")
