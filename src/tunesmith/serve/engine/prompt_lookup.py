"""Prompt lookup decoding (Saxena, 2023): drafts copied from earlier text.

A step over a few tokens hardly takes longer than a step over one, since both read every weight once. Where the last
tokens occurred before, in the request's own text or in the answers the model was tuned on, what followed them then goes
through the model along with the next token. It is accepted as far as the sampler draws the same tokens, so drafts never
change an answer. A tuned model repeats phrases of its training answers.
"""

from collections.abc import Iterable, Sequence

LONGEST, SHORTEST = 4, 2  # tokens of an n-gram that is looked up
STEP_TOKENS = 8  # tokens of all sequences in a step, up to which further ones cost little
RESTING = 24  # tokens generated without drafts after drafts proved useless
MEMORY = 0.8  # weight of earlier drafts in the moving average of accepted tokens
GOOD, FAIR, POOR = 0.6, 0.35, 0.15  # shares of accepted tokens from which drafts are long, short, one token
BREAK = -1  # between texts


class NgramIndex:
    """Texts, and where each run of two to four tokens last occurred in them."""

    def __init__(self, texts: Iterable[Sequence[int]] = ()) -> None:
        self._tokens: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}
        for text in texts:
            self.extend([*text, BREAK])

    def extend(self, tokens: Sequence[int]) -> None:
        """Appends `tokens`; the last n-gram waits for the call that brings what follows."""
        first = len(self._tokens)
        self._tokens.extend(tokens)
        for end in range(max(1, first), len(self._tokens)):
            for length in range(SHORTEST, min(LONGEST, end) + 1):
                self._after[tuple(self._tokens[end - length : end])] = end

    def continuation(self, context: tuple[int, ...], most: int) -> list[int]:
        """Up to `most` tokens that followed `context` last time; [] if it is new."""
        start = self._after.get(context)
        if start is None:
            return []
        found = self._tokens[start : start + most]
        return found[: found.index(BREAK)] if BREAK in found else found


class Drafter:
    """Drafts for one sequence, from its own text and from the model's n-gram index."""

    def __init__(self, ngram_index: NgramIndex) -> None:
        self._ngram_index = ngram_index
        self._own = NgramIndex()
        self._seen = 0
        self._accepted = GOOD  # share of drafted tokens, a moving average
        self._resting = 0

    def draft(self, tokens: Sequence[int], running: int) -> list[int]:
        """Tokens that may follow; often none.

        `running`: sequences that share the step.
        """
        most = min(self._length(), STEP_TOKENS // max(1, running) - 1)
        if most <= 0:
            return []
        self._own.extend(tokens[self._seen :])
        self._seen = len(tokens)
        for length in range(LONGEST, SHORTEST - 1, -1):
            context = tuple(tokens[-length:])
            for source in (self._ngram_index, self._own):
                found = source.continuation(context, most)
                if found:
                    return found
        return []

    def learn(self, drafted: int, accepted: int) -> None:
        """Records how many tokens of the last draft were accepted."""
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
