"""One row on its way to a fixed file.

It is converted, fixed, and judged by the check's own rules.
"""

from dataclasses import dataclass, field

from tunesmith.check.fix.columns import Columns
from tunesmith.check.fix.fixes import drop_metadata, fix_row, is_empty
from tunesmith.jsonvalue import JsonValue
from tunesmith.rows.codes import CODES
from tunesmith.rows.findings import Fault, shorten
from tunesmith.rows.other_shapes.recognise import convert
from tunesmith.rows.other_shapes.result import Converted, UnclearShapeError
from tunesmith.rows.row_faults import Kind, kind_of, row_faults


@dataclass(slots=True)
class FixedRow:
    """What became of a row.

    `errors` are what is still wrong with it, `dropped` the keys that it lost.
    """

    row: JsonValue
    fixes: list[str] = field(default_factory=list)
    shape: str | None = None
    dropped: list[str] = field(default_factory=list)
    errors: list[Fault] = field(default_factory=list)
    empty: bool = False

    @property
    def changed(self) -> bool:
        """Whether the row is not as it was read."""
        return bool(self.fixes or self.dropped or self.shape)

    @property
    def changes(self) -> list[str]:
        """What was done to the row, in words."""
        converted = [] if self.shape is None else [f"converted {self.shape}"]
        return [*converted, *self.fixes, *(f"dropped key {key}" for key in self.dropped)]


def fixed_row(row: JsonValue, kind: Kind | None, columns: Columns | None = None) -> FixedRow:
    """The row after every change that leaves no choice.

    `kind` is that of the file's rows.
    """
    if is_empty(row):
        return FixedRow(row, empty=True)
    errors = _errors(row, kind)
    try:
        converted = _converted(row, columns) if errors or columns is not None else None
    except UnclearShapeError as unclear:
        keys = shorten(list(row) if isinstance(row, dict) else None)
        return FixedRow(row, errors=[Fault(unclear.code, "", unclear.reason, keys)])
    if converted is None:
        done = FixedRow(row, errors=errors)
    else:
        done = FixedRow(converted.row, shape=converted.shape, dropped=list(converted.dropped))
    return _fixed(done, kind, known=converted is None)


def _fixed(done: FixedRow, kind: Kind | None, *, known: bool) -> FixedRow:
    """Applies the fixes; the errors are found again where something changed, or are not `known` yet."""
    row = done.row
    if not isinstance(row, dict):
        return done
    done.fixes = fix_row(row)
    own = kind_of(row)
    done.dropped += drop_metadata(row, kind if own == "reinforcement" and kind == "chat" else own)
    done.empty = is_empty(row)
    if done.changed or not known:
        done.errors = _errors(row, kind)
    return done


def _converted(row: JsonValue, columns: Columns | None) -> Converted | None:
    if columns is None:
        return convert(row)
    return columns.row(row) if isinstance(row, dict) else None


def _errors(row: JsonValue, kind: Kind | None) -> list[Fault]:
    return [fault for fault in row_faults(row, kind) if CODES[fault.code].severity == "error"]
