"""Synonyms from WordNet's own files, as METEOR asks for them.

The files are described in wndb(5WN), the endings in morphy(7WN). Debian's package
`wordnet-base` has them. They are mapped, not read: a look-up is a search by
halves in a sorted index.

Not covered: relations other than "same synset", and languages other than English.
"""

import mmap
from functools import cache, lru_cache
from pathlib import Path

KINDS = ("noun", "verb", "adj", "adv")
ENDINGS: dict[str, tuple[tuple[str, str], ...]] = {
    "noun": (
        ("s", ""),
        ("ses", "s"),
        ("ves", "f"),
        ("xes", "x"),
        ("zes", "z"),
        ("ches", "ch"),
        ("shes", "sh"),
        ("men", "man"),
        ("ies", "y"),
    ),
    "verb": (("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", "")),
    "adj": (("er", ""), ("est", ""), ("er", "e"), ("est", "e")),
    "adv": (),
}
LICENCE_LINES = b"  "  # the head of each file


class WordNet:
    """The files of one folder."""

    def __init__(self, folder: Path) -> None:
        self._files = {name: _mapped(folder / name) for kind in KINDS for name in (f"index.{kind}", f"data.{kind}")}
        self._exceptions = {kind: _exceptions(folder / f"{kind}.exc") for kind in KINDS}
        self.synonyms = lru_cache(maxsize=20_000)(self._synonyms)

    def _synonyms(self, word: str) -> frozenset[str]:
        """The single words that share a synset with `word`, itself among them where it is known."""
        return frozenset(
            lemma
            for kind in KINDS
            for form in self._base_forms(word, kind)
            for offset in self._offsets(form, kind)
            for lemma in self._lemmas(offset, kind)
            if "_" not in lemma
        )

    def _base_forms(self, word: str, kind: str) -> list[str]:
        """The dictionary's forms of an inflected word, by its exceptions, else by its endings."""
        if word in self._exceptions[kind]:
            return self._known([word, *self._exceptions[kind][word]], kind)
        shorter = _without_ending([word], kind)
        found = self._known([word, *shorter], kind)
        while shorter and not found:
            shorter = _without_ending(shorter, kind)
            found = self._known(shorter, kind)
        return found

    def _known(self, forms: list[str], kind: str) -> list[str]:
        return [form for form in dict.fromkeys(forms) if self._offsets(form, kind)]

    def _offsets(self, lemma: str, kind: str) -> list[int]:
        """Where the synsets of a lemma begin: the last numbers of its line, as many as its third field says."""
        fields = _line_of(self._files[f"index.{kind}"], lemma.encode()).split()
        return [int(offset) for offset in fields[-int(fields[2]) :]] if fields else []

    def _lemmas(self, offset: int, kind: str) -> list[str]:
        """The words of a synset: every second field from the fifth, their number is the fourth, in hex digits."""
        data = self._files[f"data.{kind}"]
        fields = data[offset : data.find(b"\n", offset)].split(b" ")
        words = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
        return [word.split(b"(")[0].decode() for word in words]


@cache
def open_wordnet(folder: Path) -> WordNet:
    """The files of `folder`, opened once."""
    return WordNet(folder)


def _mapped(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _exceptions(path: Path) -> dict[str, list[str]]:
    lines = (line.split() for line in path.read_text("utf-8").splitlines())
    return {word: forms for word, *forms in lines}


def _without_ending(forms: list[str], kind: str) -> list[str]:
    return [form[: -len(old)] + new for form in forms for old, new in ENDINGS[kind] if form.endswith(old)]


def _line_of(index: mmap.mmap, lemma: bytes) -> str:
    """The line that begins with `lemma`, or "": the lines of the index are sorted by their bytes."""
    low, high = 0, len(index)
    while low < high:
        middle = (low + high) // 2
        begin = index.rfind(b"\n", 0, middle) + 1
        end = index.find(b"\n", begin)
        end = len(index) if end < 0 else end
        line = index[begin:end]
        word = line.split(b" ", 1)[0]
        if word == lemma and lemma:
            return line.decode()
        if line.startswith(LICENCE_LINES) or word < lemma:
            low = end + 1
        else:
            high = begin
    return ""
