"""Asks a model on this machine one question, and what the file's answer costs it."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from tunesmith.errors import InvalidRequest, RateLimited, ServerFault
from tunesmith.evals.answers import Answer
from tunesmith.evals.criteria import Reply
from tunesmith.evals.questions import Question
from tunesmith.evals.verdict.spec import SideSpec
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.render.renderer import Renderer
from tunesmith.rows.row import ChatRow, parse_row
from tunesmith.serve.chat import answer as chat
from tunesmith.serve.chat.answer import Piece, start_chat
from tunesmith.serve.chat.request import ChatRequest, chat_request
from tunesmith.serve.engine.protocol import GenerateRequest, Generation
from tunesmith.serve.loaded_model import LoadedModel
from tunesmith.serve.pool import Pool
from tunesmith.wire.body import read
from tunesmith.wire.chat.bodies import Chat


@dataclass(frozen=True, slots=True)
class Side:
    """One side, loaded.

    `digest`: of the weights that answer, found on the disk and not taken from the spec.
    """

    name: str
    loaded: LoadedModel
    digest: str

    @classmethod
    def open(cls, pool: Pool, spec: SideSpec) -> "Side":
        """Loads a side.

        Raises ServerFault where other weights lie there than the spec says.
        """
        loaded = pool.open(spec.base_dir, spec.adapter_dir)
        if loaded.tuned != spec.digest:
            raise ServerFault(
                f"{spec.name} was to answer with the weights {spec.digest[:10]}, but {loaded.tuned[:10]} are there."
            )
        return cls(spec.name, loaded, loaded.tuned)

    def begin(self, question: Question, max_tokens: int) -> "Asked":
        """Queues a question and what its answer in the file costs.

        Raises InvalidRequest for one that cannot be asked.
        """
        reply = start_chat(_request(self.name, question, max_tokens), self.loaded, max_tokens)
        return Asked(self, reply, self._scored(question), time.perf_counter())

    def _scored(self, question: Question) -> "tuple[Generation, list[float]] | None":
        """The file's answer goes through the model once; None where it is not text of the row's own kind."""
        rendered = _rendered(question, self.loaded.renderer)
        if rendered is None or len(rendered[0]) > self.loaded.engine.context_length:
            return None
        ids, weights = rendered
        generation = self.loaded.engine.submit(
            GenerateRequest(
                prompt=tuple(ids),
                max_tokens=0,
                eos_ids=self.loaded.renderer.eos_ids,
                temperature=0.0,
                top_logprobs=0,
                prompt_logprobs=True,
                adapter=self.loaded.adapter,
            )
        )
        return generation, weights


@dataclass(frozen=True, slots=True)
class Asked:
    """A question under way at one side."""

    side: Side
    reply: chat.Reply
    scored: "tuple[Generation, list[float]] | None"
    started: float

    def answer(self) -> Answer:
        """Waits for the end."""
        pieces = list(self.reply)
        seconds = time.perf_counter() - self.started
        usage = self.reply.usage
        made = Answer(
            reply=_reply(pieces),
            model=self.side.name,
            fingerprint=f"fp_{self.reply.fingerprint}",
            prompt_tokens=usage.prompt_tokens,
            tokens=usage.completion_tokens,
            seconds=seconds,
            cut=bool(pieces) and pieces[-1].finish == "length",
            adapter=self.side.digest,
        )
        if self.scored is None:
            return made
        generation, weights = self.scored
        for _ in generation:
            pass
        costs = [-(one.logprob or 0.0) * weight for one, weight in zip(generation.prompt, weights[1:], strict=True)]
        return replace(made, loss=sum(costs), loss_tokens=sum(weight > 0 for weight in weights[1:]))


def answers(sides: tuple[Side, Side], question: Question, max_tokens: int) -> tuple[Answer, Answer] | str:
    """What both sides answer at the same time, or why one cannot be asked."""
    begun: list[Asked] = []
    try:
        begun.extend(side.begin(question, max_tokens) for side in sides)  # those begun stay where a later one fails
        with ThreadPoolExecutor(1) as thread:  # each side's time is its own
            second = thread.submit(begun[1].answer)
            return begun[0].answer(), second.result()
    except (InvalidRequest, RateLimited) as error:
        return error.message
    finally:
        for one in begun:
            one.reply.close()
            if one.scored is not None:
                one.scored[0].close()


def longest_answer(questions: list[Question], renderer: Renderer, most: int) -> int:
    """How many tokens an answer may have: twice the file's longest, within bounds.

    It is known before any answer is seen.
    """
    texts = (one.reference.text + "".join(map("".join, one.reference.calls)) for one in questions)
    longest = max((renderer.count(text) for text in texts), default=0)
    return min(most, max(64, 2 * longest))


def _request(model: str, question: Question, max_tokens: int) -> ChatRequest:
    body: JsonObject = {
        "model": model,
        "messages": list(question.messages),
        "temperature": 0,
        "max_completion_tokens": max_tokens,
        **question.options,
    }
    return chat_request(read(Chat, body))


def _rendered(question: Question, renderer: Renderer) -> tuple[list[int], list[float]] | None:
    """The tokens of the row up to the answer, and which of them are the answer's; as the trainer lays them out."""
    if not question.answer:
        return None
    before: list[JsonValue] = [
        {**one, "weight": 0} if one.get("role") == "assistant" else one for one in question.messages
    ]
    row = parse_row({**question.options, "messages": [*before, question.answer]})
    if not isinstance(row, ChatRow):
        return None
    example = renderer.examples(row).examples[-1]
    return example.ids, example.weights


def _reply(pieces: list[Piece]) -> Reply:
    calls: dict[int, tuple[str, str]] = {}
    for call in (call for piece in pieces for call in piece.calls):
        name, arguments = calls.get(call.index, ("", ""))
        calls[call.index] = (call.name or name, arguments + call.arguments)
    return Reply("".join(piece.text for piece in pieces), tuple(calls[index] for index in sorted(calls)))
