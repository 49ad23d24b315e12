"""The texts of a chunk's sound rows, in columns: what is counted in one call, searched in one go, and hashed.

Analysers (`analysers`) get this object; `place` turns the number of a text back into line and path.
"""

from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import accumulate

from tunesmith.data.rowtexts import RowTexts
from tunesmith.data.shapes import Shape

GAP = b"\xff"  # in no UTF-8 text


@dataclass(slots=True)
class Batch:
    """One entry per row in `lines`, `lengths`, `overhead`, `messages`, `prompts`, `answers`, `systems`, `system_at`.

    One entry per text in `texts`, `encoded` (its UTF-8) and `learned`. A row's texts lie together; `lengths` says how
    many there are.
    `prompts` and `answers` are 64-bit digests, the same in every process and run; `systems` is that of the first
    system message (0: none), whose text is number `system_at` of the row (-1: none).
    """

    lines: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    overhead: list[int] = field(default_factory=list)
    messages: list[int] = field(default_factory=list)
    prompts: list[int] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    systems: list[int] = field(default_factory=list)
    system_at: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    encoded: list[bytes] = field(default_factory=list)
    learned: list[bool] = field(default_factory=list)
    roles: dict[tuple[str, ...], int] = field(default_factory=dict)
    _paths: dict[int, str] = field(default_factory=dict)
    _starts: list[int] = field(default_factory=list)
    _blob: bytes | None = None
    _joined: str | None = None
    _offsets: list[int] | None = None

    def add_plain(
        self,
        line: int,
        shape: Shape,
        contents: tuple[str, ...],
        encoded: list[bytes],
        system: int,
        digests: tuple[int, int],
    ) -> None:
        """A chat row whose messages have a role and a content, nothing else."""
        self.lines.append(line)
        self.lengths.append(len(contents))
        self.overhead.append(shape.overhead)
        self.messages.append(len(contents))
        self.prompts.append(digests[0])
        self.answers.append(digests[1])
        self.systems.append(system)
        self.system_at.append(shape.system_at)
        self.texts.extend(contents)
        self.encoded.extend(encoded)
        self.learned.extend(shape.learned)

    def add_texts(self, line: int, row: RowTexts) -> None:
        """Any other row."""
        self.lines.append(line)
        self.lengths.append(len(row.texts))
        self.overhead.append(row.overhead)
        self.messages.append(len(row.roles))
        self.prompts.append(row.prompt)
        self.answers.append(row.answer)
        self.systems.append(row.system)
        self.system_at.append(row.system_at)
        self._paths.update(enumerate(row.paths, start=len(self.texts)))
        self.texts.extend(row.texts)
        self.encoded.extend([text.encode() for text in row.texts])
        self.learned.extend(row.learned)
        roles = tuple(row.roles)
        self.roles[roles] = self.roles.get(roles, 0) + 1

    @property
    def starts(self) -> list[int]:
        """The number of each row's first text."""
        if len(self._starts) != len(self.lengths):
            self._starts = list(accumulate(self.lengths, initial=0))[:-1]
        return self._starts

    def is_plain(self, row: int) -> bool:
        """Whether the row's texts are its messages' contents, one each."""
        return self.starts[row] not in self._paths

    @property
    def blob(self) -> bytes:
        """All texts in one, `GAP` between them, for quick searches."""
        if self._blob is None:
            self._blob = GAP.join(self.encoded)
        return self._blob

    @property
    def joined(self) -> str:
        """All texts in one, a `\\n` between them, for searches that cost per call; `text_at` leads back."""
        if self._joined is None:
            self._joined = "\n".join(self.texts)
        return self._joined

    def text_at(self, position: int) -> tuple[int, int]:
        """(number of the text, position in it) of a position in `joined`."""
        if self._offsets is None:
            self._offsets = list(accumulate((len(text) + 1 for text in self.texts), initial=0))
        number = bisect_right(self._offsets, position) - 1
        return number, position - self._offsets[number]

    def place(self, text: int) -> tuple[int, str]:
        """(line, path) of text number `text`."""
        row = bisect_right(self.starts, text) - 1
        return self.lines[row], self._paths.get(text) or f"messages[{text - self.starts[row]}].content"
