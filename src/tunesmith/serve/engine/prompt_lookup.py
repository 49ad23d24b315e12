"""Guesses at what comes next, from what was said before: they cost a look-up and change no answer.

A step over a few tokens takes hardly longer than a step over one, since both read every weight once. So where the last
tokens were followed by something before, in the request's own text or in the answers that the model was tuned on, that
continuation goes through the model with the next token, and counts as far as the sampler draws the same
(prompt look-up decoding; Saxena, 2023). A tuned model repeats the turns of phrase of its training answers.
"""

from collections.abc import Iterable, Sequence

LONGEST, SHORTEST = 4, 2  # tokens that must agree with the end of the text
STEP_TOKENS = 8  # tokens of all answers in a step up to which more of them cost little
RESTING = 24  # tokens made without a draft after drafts proved useless
MEMORY = 0.8  # of what earlier drafts say about the next; the rest is the last one's
GOOD, FAIR, POOR = 0.6, 0.35, 0.15  # shares of accepted tokens: long drafts, short ones, one token; below: none
BREAK = -1  # between texts


class Continuations:
    """Texts, and where in them each run of two to four tokens was last seen."""

    def __init__(self, texts: Iterable[Sequence[int]] = ()) -> None:
        self._tokens: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}
        for text in texts:
            self.extend([*text, BREAK])

    def extend(self, tokens: Sequence[int]) -> None:
        """What the last tokens are followed by is not known yet: they are indexed with the next ones."""
        first = len(self._tokens)
        self._tokens.extend(tokens)
        for end in range(max(1, first), len(self._tokens)):
            for length in range(SHORTEST, min(LONGEST, end) + 1):
                self._after[tuple(self._tokens[end - length : end])] = end

    def after(self, context: tuple[int, ...], most: int) -> list[int]:
        """What followed `context`, the tokens' last occurrence; [] where it never came."""
        start = self._after.get(context)
        if start is None:
            return []
        found = self._tokens[start : start + most]
        return found[: found.index(BREAK)] if BREAK in found else found


class Drafter:
    """Drafts of one answer. Knows the answer's own text and the `book` of the model."""

    def __init__(self, book: Continuations) -> None:
        self._book = book
        self._own = Continuations()
        self._seen = 0
        self._accepted = GOOD  # share of drafted tokens, a moving average
        self._resting = 0

    def draft(self, tokens: Sequence[int], answers: int) -> list[int]:
        """What may follow `tokens`, where `answers` take part in the step; often nothing."""
        most = min(self._length(), STEP_TOKENS // max(1, answers) - 1)
        if most <= 0:
            return []
        self._own.extend(tokens[self._seen :])
        self._seen = len(tokens)
        for length in range(LONGEST, SHORTEST - 1, -1):
            context = tuple(tokens[-length:])
            for source in (self._book, self._own):
                found = source.after(context, most)
                if found:
                    return found
        return []

    def learn(self, drafted: int, accepted: int) -> None:
        """So many tokens of the last draft were right."""
        self._accepted = MEMORY * self._accepted + (1 - MEMORY) * accepted / drafted
        if self._accepted < POOR:
            self._resting, self._accepted = RESTING, FAIR

    def _length(self) -> int:
        if self._resting:
            self._resting -= 1
            return 0
        if self._accepted >= GOOD:
            return STEP_TOKENS
        return 3 if self._accepted >= FAIR else 1
