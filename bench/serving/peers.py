"""One engine of `bench/serve.py`: `python bench/serving/peers.py JOB.json`.

Reads one command per line from stdin and answers each with a line on stdout; output of libraries goes to stderr.

    {"prompts": [[1, 2]], "adapters": [0], "max_tokens": 8, "stop": false, "cache": null, "in_turn": false}
    {"add": DIRECTORY}

Answers are greedy and have the seconds they took together, and their tokens. `adapters` are indices into the job's
list, null for the bare base; `stop`: the end of a turn ends an answer; `cache`: requests with the same name may reuse
each other's prefixes, null reuses none; `in_turn`: one prompt after another instead of all at once.

Only the standard library is imported before the engine is known, since each has an environment of its own.
"""

import json
import os
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count, groupby
from pathlib import Path
from statistics import median
from typing import Any, Protocol

MOST_STREAMS = 16
SLOT_TOKENS = 1024  # longest prompt and answer of a stream
PATIENCE = 600  # seconds that a request to llama.cpp may take

Job = dict[str, Any]
Tokens = list[list[int]]


@dataclass(frozen=True, slots=True)
class Asked:
    """See the module's text."""

    prompts: Tokens
    adapters: list[int | None]
    max_tokens: int
    stop: bool
    cache: str | None


class Engine(Protocol):
    def ask(self, asked: Asked) -> Tokens:
        """All prompts at once; the answers' tokens."""
        ...

    def add(self, directory: str) -> float | None:
        """Seconds until a new adapter can answer; None if that takes a restart.

        Without the time of its first answer.
        """
        ...


class Tunesmith:
    def __init__(self, job: Job) -> None:
        from tunesmith.render.renderer import load_renderer
        from tunesmith.serve.local.engine import load_engine
        from tunesmith.settings import Settings

        settings = Settings(
            data_dir=Path(job["scratch"]),
            serve_threads=job["threads"],
            serve_weights=job["options"]["weights"],
            serve_prompt_lookup=job["options"]["drafts"],
            chat_running=MOST_STREAMS,
        )
        base_dir = Path(job["base_dir"])
        self._engine = load_engine(base_dir, settings)
        self._ends = load_renderer(base_dir).eos_ids
        self._adapters = [Path(adapter) for adapter in job["adapters"]]
        self._nobody = (f"nobody {number}" for number in count())

    def ask(self, asked: Asked) -> Tokens:
        adapters = [None if place is None else self._adapters[place] for place in asked.adapters]
        project = asked.cache or next(self._nobody)
        return self._answers(asked, adapters, project)

    def add(self, directory: str) -> float | None:
        asked = Asked([[1, 2, 3, 4]], [0], 1, stop=False, cache=None)
        seconds = []
        for adapter in (*[self._adapters[0]] * 3, Path(directory)):
            began = time.perf_counter()
            self._answers(asked, [adapter], next(self._nobody))
            seconds.append(time.perf_counter() - began)
        return seconds[-1] - median(seconds[:-1])

    def _answers(self, asked: Asked, adapters: "list[Path | None] | list[Path]", project: str) -> Tokens:
        from tunesmith.serve.engine.protocol import GenerateRequest

        ends = self._ends if asked.stop else frozenset()
        generations = [
            self._engine.submit(
                GenerateRequest(tuple(prompt), asked.max_tokens, ends, temperature=0, adapter=adapter, project=project)
            )
            for prompt, adapter in zip(asked.prompts, adapters, strict=True)
        ]
        return [[delta.token for delta in generation] for generation in generations]


class Transformers:
    """`generate` with PEFT: one left-padded batch, each row with its own adapter."""

    def __init__(self, job: Job) -> None:
        import torch
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(job["threads"])
        model = AutoModelForCausalLM.from_pretrained(job["base_dir"], dtype=torch.float32)
        first, *others = job["adapters"]
        self._model = PeftModel.from_pretrained(model, first, adapter_name="0").eval()
        for place, adapter in enumerate(others, 1):
            self._model.load_adapter(adapter, adapter_name=str(place))
        self._end: int = model.generation_config.eos_token_id
        self._new = count(len(job["adapters"]))

    def ask(self, asked: Asked) -> Tokens:
        import torch

        width = max(map(len, asked.prompts))
        ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in asked.prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in asked.prompts])
        names = ["__base__" if place is None else str(place) for place in asked.adapters]
        alone = len(set(names)) == 1 and names[0] != "__base__"
        if alone:
            self._model.set_adapter(names[0])
        with torch.inference_mode():
            made = self._model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=asked.max_tokens,
                do_sample=False,
                eos_token_id=self._end if asked.stop else None,
                pad_token_id=0,
                **({} if alone else {"adapter_names": names}),
            )
        return [_until(row, self._end) if asked.stop else row for row in made[:, width:].tolist()]

    def add(self, directory: str) -> float | None:
        began = time.perf_counter()
        self._model.load_adapter(directory, adapter_name=str(next(self._new)))
        return time.perf_counter() - began


class LlamaCpp:
    """llama-server in the wheel xllamacpp, with a slot for each stream.

    Adapters are given at the start.
    """

    def __init__(self, job: Job) -> None:
        import xllamacpp  # type: ignore[import-not-found, unused-ignore]

        params = xllamacpp.CommonParams()
        params.model.path = job["model"]
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(path, 1.0) for path in job["adapters"]]
        params.lora_init_without_apply = True
        params.n_parallel = MOST_STREAMS
        params.n_ctx = MOST_STREAMS * SLOT_TOKENS
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = job["threads"]
        params.cache_ram_mib = 0  # a second cache, for prompts that no slot holds any more: only memory here
        params.verbosity = 0
        self._server = xllamacpp.Server(params)

    def ask(self, asked: Asked) -> Tokens:
        with ThreadPoolExecutor(MOST_STREAMS) as pool:
            return [*pool.map(lambda place: self._answer(asked, place), range(len(asked.prompts)))]

    def add(self, directory: str) -> float | None:
        return None

    def _answer(self, asked: Asked, place: int) -> list[int]:
        adapter = asked.adapters[place]
        body = {
            "prompt": asked.prompts[place],
            "n_predict": asked.max_tokens,
            "temperature": 0,
            "return_tokens": True,
            "ignore_eos": not asked.stop,
            "cache_prompt": asked.cache is not None,
            "lora": [] if adapter is None else [{"id": adapter, "scale": 1.0}],
        }
        request = urllib.request.Request(
            f"{self._server.listening_address}/completion",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            tokens: list[int] = json.load(response)["tokens"]
        return tokens


class OpenVino:
    """The continuous batching of OpenVINO GenAI, with one adapter at a time.

    Its prefix cache is off, since it would reuse one adapter's results for another.
    """

    def __init__(self, job: Job) -> None:
        import openvino_genai  # type: ignore[import-not-found, unused-ignore]

        self._genai = openvino_genai
        self._adapters = [(openvino_genai.Adapter(path), scale) for path, scale in job["adapters"]]
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.cache_size = 1
        scheduler.max_num_seqs = MOST_STREAMS
        scheduler.enable_prefix_caching = False
        self._pipeline = openvino_genai.ContinuousBatchingPipeline(
            job["model"],
            scheduler,
            "CPU",
            {
                "INFERENCE_NUM_THREADS": job["threads"],
                "INFERENCE_PRECISION_HINT": "f32",
                "KV_CACHE_PRECISION": "f32",
                "adapters": openvino_genai.AdapterConfig(self._adapters),
            },
        )

    def ask(self, asked: Asked) -> Tokens:
        answers: dict[int, list[int]] = {}
        order = sorted(range(len(asked.prompts)), key=lambda place: asked.adapters[place] or 0)
        for adapter, places in groupby(order, key=asked.adapters.__getitem__):
            together = [*places]
            made = self._generate([asked.prompts[place] for place in together], adapter, asked)
            answers |= zip(together, made, strict=True)
        return [answers[place] for place in range(len(asked.prompts))]

    def add(self, directory: str) -> float | None:
        return None

    def _generate(self, prompts: Tokens, adapter: int | None, asked: Asked) -> Tokens:
        import numpy
        import openvino  # type: ignore[import-not-found, unused-ignore]

        config = self._genai.GenerationConfig()
        config.max_new_tokens = asked.max_tokens
        config.ignore_eos = not asked.stop
        config.do_sample = False
        chosen = [] if adapter is None else [self._adapters[adapter]]
        config.adapters = self._genai.AdapterConfig(chosen)
        inputs = [openvino.Tensor(numpy.array([prompt], dtype=numpy.int64)) for prompt in prompts]
        results = self._pipeline.generate(inputs, [config] * len(inputs))
        return [[*result.m_generation_ids[0]] for result in results]


KINDS: dict[str, Callable[[Job], Engine]] = {
    "tunesmith": Tunesmith,
    "transformers": Transformers,
    "llamacpp": LlamaCpp,
    "openvino": OpenVino,
}


def _until(tokens: list[int], end: int) -> list[int]:
    """With the token that ends the turn."""
    return tokens[: tokens.index(end) + 1] if end in tokens else tokens


def obey(engine: Engine, command: dict[str, Any]) -> dict[str, Any]:
    if "add" in command:
        return {"seconds": engine.add(command["add"])}
    in_turn = command.pop("in_turn")
    asked = Asked(**command)
    began = time.perf_counter()
    tokens = [answer for part in (_single(asked) if in_turn else [asked]) for answer in engine.ask(part)]
    return {"seconds": time.perf_counter() - began, "tokens": tokens}


def _single(asked: Asked) -> Iterator[Asked]:
    for prompt, adapter in zip(asked.prompts, asked.adapters, strict=True):
        yield Asked([prompt], [adapter], asked.max_tokens, asked.stop, asked.cache)


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print to what was stdout, also from C
    job = json.loads(Path(sys.argv[1]).read_text())
    engine = KINDS[job["kind"]](job)
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(obey(engine, json.loads(line))), file=answers, flush=True)
    answers.flush()
    os._exit(0)  # some engines take seconds to tear down, or crash in it


if __name__ == "__main__":
    main()
