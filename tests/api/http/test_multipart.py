"""The upload parser alone: whatever way the network cuts the body, the same file comes out."""

from collections.abc import Iterator
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tunesmith.api.http.multipart import UploadForm

CONTENT = b'{"a": 1}\r\n--boundary-like\r\n--B\n{"b": 2}'
BODY = (
    b'--BBB\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
    b'--BBB\r\nContent-Disposition: form-data; name="file"; filename="x.jsonl"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\n" + CONTENT + b"\r\n--BBB--\r\n"
)


@given(st.lists(st.integers(1, len(BODY)), max_size=20))
def test_any_cut_of_the_body_gives_the_same_file(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(BODY)]
    pieces = [BODY[start:end] for start, end in pairwise(edges) if start < end]
    form = UploadForm("multipart/form-data; boundary=BBB", pieces)
    assert b"".join(form.file_chunks()) == CONTENT
    assert (form.filename, form.fields) == ("x.jsonl", {"purpose": "fine-tune"})


def test_file_is_handed_on_while_the_body_still_arrives() -> None:
    def body() -> Iterator[bytes]:
        yield BODY[:-20]
        raise AssertionError("asked for more before the first piece was taken")

    assert next(UploadForm("multipart/form-data; boundary=BBB", body()).file_chunks())
