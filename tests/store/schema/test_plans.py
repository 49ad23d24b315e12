"""What lists, pages and look-ups read is found by an index, on both databases: no large table from end to end."""

import pytest
from bench.storage.scale_cases import Case, cases
from bench.storage.scale_fill import Size, fill
from tests.plans import explain, full_scans, selects

from tunesmith.store import Store


@pytest.fixture
def asked(store: Store) -> list[Case]:
    return cases(fill(store, Size(jobs=60, events=600, files=200, usage=100)))


def test_no_call_reads_a_large_table_from_end_to_end(store: Store, asked: list[Case]) -> None:
    scans, read = [], 0
    for case in asked:
        with selects(store) as heard:
            case.call(store, case.keys[0])
        read += len(heard.statements)
        for statement in heard.statements:
            found = full_scans(explain(store, statement, seqscan=False))
            scans += [f"{case.name}: {line}" for line in found if not case.whole]
    assert scans == []
    assert read > 30
