"""A multipart upload read as it arrives, one chunk in memory at a time.

Parts may come in any order and have any file name.

Starlette's own parser would write a second copy to /tmp (often memory), and take a file name in RFC 5987's form
(`filename*=`, which older `requests` sends for 天气.jsonl) for a plain field.

Not covered: a second `file` part and nested multipart; both are refused or ignored.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from tunesmith.errors import InvalidRequest

MAX_FIELD_BYTES = 64 * 1024  # purpose and expires_after are a few bytes
MAX_FIELDS = 32
MAX_BOUNDARY = 256  # RFC 2046 allows 70
MAX_SHOWN = 200  # characters of a Content-Type
MAX_NAME = 255  # characters; the end of a longer name is kept, with its extension


@dataclass(slots=True)
class _Part:
    name: str
    data: bytearray = field(default_factory=bytearray)


class UploadForm:
    """A form with one large part, whose bytes are streamed.

    `file_chunks()` yields them; after the last one `fields` and `filename` are complete.

    `large`: its name. `filename` is None when it did not come; it has a value even where the part has no file name.
    """

    def __init__(self, content_type: str, body: Iterable[bytes], large: str = "file") -> None:
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self._body = body
        self._large = large
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._disposition = b""
        self._part = _Part("")
        self._pending: list[bytes] = []
        self._finished = False
        self._parser = MultipartParser(
            _boundary(content_type, large),
            {
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    def file_chunks(self) -> Iterator[bytes]:
        """The large part's bytes.

        Raises InvalidRequest for a body that is not multipart, ends early or is too large.
        """
        for chunk in self._body:
            try:
                self._parser.write(chunk)
            except FormParserError as error:
                raise InvalidRequest(f"The body is not valid multipart/form-data: {error}.") from error
            yield from self._pending
            self._pending.clear()
        if not self._finished:
            raise InvalidRequest("The upload ended before its closing boundary; send it again.")

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = bytes(self._header_value)
        self._header_name.clear()
        self._header_value.clear()

    def _on_headers_finished(self) -> None:
        disposition, self._disposition = self._disposition, b""
        _, options = parse_options_header(disposition)
        if b"name" not in options:
            raise InvalidRequest("A part of the upload has no name in its Content-Disposition header.")
        name = _text(options[b"name"])
        if len(self.fields) >= MAX_FIELDS:
            raise InvalidRequest(
                f"The upload has more than {MAX_FIELDS} parts; it takes file, purpose and expires_after."
            )
        if name == self._large:
            if self.filename is not None:
                raise InvalidRequest(f"The upload has two parts named '{name}'; send one per request.", param=name)
            self.filename = _filename(disposition, options.get(b"filename", b""))
        self._part = _Part(name)

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        part = self._part
        if part.name != self._large:
            part.data += data[start:end]
            if len(part.data) > MAX_FIELD_BYTES:
                raise InvalidRequest(f"The part {part.name!r} is larger than {MAX_FIELD_BYTES} bytes.", param=part.name)
            return
        self._pending.append(data[start:end])

    def _on_part_end(self) -> None:
        part = self._part
        if part.name != self._large:
            self.fields[part.name] = _text(bytes(part.data))

    def _on_end(self) -> None:
        self._finished = True


def _boundary(content_type: str, large: str) -> bytes:
    kind, options = parse_options_header(content_type)
    purpose = " and the part 'purpose'" if large == "file" else ""
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise InvalidRequest(
            f"Send multipart/form-data with the part '{large}'{purpose}; "
            f"this request's Content-Type is {content_type[:MAX_SHOWN] or 'missing'}."
        )
    if len(options[b"boundary"]) > MAX_BOUNDARY:
        raise InvalidRequest(
            f"The boundary of the request's Content-Type has {len(options[b'boundary']):,} characters; it may have "
            f"{MAX_BOUNDARY}."
        )
    return options[b"boundary"]


def _filename(disposition: bytes, plain: bytes) -> str:
    """The last part of the name as the client wrote it; it is only ever shown, never a path here."""
    name = _text(plain).replace("%22", '"')  # how browsers and urllib3 2 escape a quote
    extended = re.search(rb"filename\*=utf-8''([^;\s]+)", disposition, re.IGNORECASE)
    if extended:
        name = unquote(extended[1].decode("latin-1"))
    return shown_name(name)


def shown_name(name: str) -> str:
    """The name without directories and control characters; "file" if none is left."""
    name = "".join(letter for letter in name.rpartition("/")[2] if letter.isprintable())
    return name[-MAX_NAME:] or "file"


def _text(raw: bytes) -> str:
    """UTF-8 as clients send it; Latin-1 where it is not, so that any name can be uploaded."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")
