"""One question to a model of the server, for `tunesmith eval`."""

import time
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from tunesmith.client import Client
    from tunesmith.evals.answers import Answer
    from tunesmith.evals.questions import Question
    from tunesmith.jsonvalue import JsonObject

BUSY = frozenset((429, 503))
TRIES, FIRST_WAIT = 8, 0.5  # of a question that a busy server turns away; seconds, doubled each time


class Asker:
    """Asks one question of one model, again where the server is busy."""

    def __init__(self, client: "Client", max_tokens: int) -> None:
        self._client = client
        self._max_tokens = max_tokens

    def at_most(self, tokens: int) -> "Asker":
        """The same, for shorter answers."""
        return Asker(self._client, tokens)

    def __call__(self, model: str, question: "Question") -> "Answer | str":
        """The answer, or why this question cannot be asked."""
        from tunesmith.client import ServerRefused

        body = {
            "model": model,
            "messages": list(question.messages),
            "temperature": 0,
            "max_completion_tokens": self._max_tokens,
            **question.options,
        }
        for again in range(TRIES):
            started = time.perf_counter()
            try:
                answer = self._client.complete(body)
            except ServerRefused as refused:
                if refused.status_code in BUSY and again < TRIES - 1:
                    time.sleep(FIRST_WAIT * 2**again)
                    continue
                if refused.status_code == 400:  # this row, for one too long; others may be asked
                    return refused.message
                raise
            return _answer(answer, time.perf_counter() - started)
        raise AssertionError("the last try returns or raises")


def _answer(completion: dict[str, object], seconds: float) -> "Answer":
    from tunesmith.evals.answers import Answer
    from tunesmith.evals.criteria import read_reply

    value = cast("JsonObject", completion)
    choice = cast("list[JsonObject]", value["choices"])[0]
    usage = cast("dict[str, int]", value["usage"])
    return Answer(
        reply=read_reply(cast("JsonObject", choice["message"])),
        model=str(value["model"]),
        fingerprint=str(value.get("system_fingerprint")),
        prompt_tokens=usage["prompt_tokens"],
        tokens=usage["completion_tokens"],
        seconds=seconds,
        cut=choice["finish_reason"] == "length",
    )
