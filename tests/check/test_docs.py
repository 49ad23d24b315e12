"""The page on training data says what the code does."""

import importlib.util
import json
import re
from pathlib import Path

from tunesmith.check.file_check import check_file
from tunesmith.rows.row_faults import row_faults

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "dataset-format.md"


def test_the_table_of_codes_is_that_of_the_code() -> None:
    spec = importlib.util.spec_from_file_location("dataset_codes", ROOT / "scripts" / "dataset_codes.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    text = PAGE.read_text(encoding="utf-8")
    assert script.page(text) == text, "run `python scripts/dataset_codes.py`"


def test_the_example_row_is_sound() -> None:
    example = re.search(r"```json\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert example is not None
    assert list(row_faults(json.loads(example.group(1)))) == []


def test_every_key_of_the_json_report_is_documented(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"messages": [{"role": "system", "content": "s"}, {"role": "assistant", "content": "b"}]}\n' * 10)
    text = PAGE.read_text(encoding="utf-8")
    for key, value in check_file(path).to_json().items():
        assert f"`{key}`" in text, key
        for inner in value if key in ("openai", "distributions") and isinstance(value, dict) else ():
            assert inner in text, inner


def test_the_python_example_runs(capsys: object) -> None:
    example = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert example is not None
    exec(example.group(1).replace('"examples/', f'"{ROOT}/examples/'), {})
