"""One request for each way to make the server work that we know of; see `worst`."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

from tunesmith.jsonvalue import JsonObject

BASE = "smollm2-135m-instruct"
CHAT, TEXTS, COMPLETIONS = "/v1/chat/completions", "/v1/moderations", "/v1/completions"
JOBS, GRADERS = "/v1/fine_tuning/jobs", "/v1/fine_tuning/alpha/graders/run"
MB = 1_000_000
USER: JsonObject = {"role": "user", "content": "a"}


@dataclass(frozen=True, slots=True)
class Hostile:
    name: str
    path: str
    body: bytes = b""
    content_type: str = "application/json"
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=dict)


def hostile() -> Iterator[Hostile]:
    """All of them."""
    yield from _messages()
    yield from _chat_fields()
    yield from _bodies()
    yield from _heads()
    yield from _templates()
    yield from _similarities()
    yield from _moderations()
    yield from _completions()


def _messages() -> Iterator[Hostile]:
    yield _chat("18 MB message", messages=[{"role": "user", "content": "a" * (18 * MB)}])
    yield _chat("long message", messages=[{"role": "user", "content": "Ein Satz. " * 400_000}])
    yield _chat("long word", messages=[{"role": "user", "content": "x" * 900_000}])
    yield _chat("900,000 blanks and a letter", messages=[{"role": "user", "content": " " * 900_000 + "a"}])
    for count in (1000, 8000, 60_000, 100_000):
        yield _chat(f"{count} messages", messages=[USER, {"role": "assistant", "content": "b"}] * (count // 2))
    yield _chat("parts", messages=[{"role": "user", "content": [{"type": "text", "text": "a"}] * 90_000}])
    image: JsonObject = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * (3 * MB)}}
    yield _chat("image part", messages=[{"role": "user", "content": [image]}])
    small = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    yield _chat("image parts", messages=[{"role": "user", "content": [small] * 45_000}])
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{" * 900_000}}
    yield _chat("call of brackets", messages=[USER, {"role": "assistant", "content": None, "tool_calls": [call]}])
    calls = {"role": "assistant", "content": None, "tool_calls": [{**call, "function": {"name": "f"}}] * 30_000}
    yield _chat("calls", messages=[USER, calls])


def _chat_fields() -> Iterator[Hostile]:
    yield _chat("metadata", store=True, metadata={str(n): n for n in range(300_000)})
    wrong = b",".join(b'"%d":%d' % (n, n) for n in range(1_500_000))
    yield _post("1.5 million wrong metadata", CHAT, b'{"model":"a","messages":[],"metadata":{' + wrong + b"}}")
    yield _chat("logit_bias of 300,000", logit_bias={str(n): 0 for n in range(300_000)})
    yield _chat("logit_bias of 10,000", logit_bias={str(n): 1 for n in range(10_000)})
    yield _chat("stops", stop=[1] * 900_000)
    yield _chat("stop strings", stop=["ab" * 400_000] * 4)
    yield _chat("tools of a digit", tools=[1] * 900_000)
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    yield _chat("tools", tools=[tool] * 40_000)
    yield _chat("modalities", modalities=[1] * 900_000)
    yield _chat("unknown names", **{f"x{n}": n for n in range(300_000)})
    yield _chat("model's name of 3 MB", model="a" * (3 * MB))
    yield _chat("model's name of 3 MB in ft:", model="ft:" + "a:" * (MB + MB // 2))
    for count in (1000, 15_000):
        yield _chat(
            f"schema of {count} properties",
            response_format=_format({f"p{n}": {"type": "string"} for n in range(count)}),
        )
    deep: JsonObject = {"type": "string"}
    for _ in range(300):
        deep = {"type": "array", "items": deep}
    yield _chat("schema 300 deep", response_format=_format({"p": deep}))
    pattern: JsonObject = {"type": "string", "pattern": "(a|b)*" * 2000}
    yield _chat("schema of a long pattern", response_format=_format({"p": pattern}))
    yield _chat("schema of an enum", response_format=_format({"p": {"enum": [f"x{n}" * 9 for n in range(50_000)]}}))
    yield _chat("n of 128", n=128, max_tokens=1)
    yield _chat("n of 4,000 digits", n=10**3999)


def _bodies() -> Iterator[Hostile]:
    yield _post("10 million lists", CHAT, b"[" + b"[]," * (10 * MB) + b"[]]")
    yield _post("a million lists", CHAT, b"[" + b"[]," * MB + b"[]]")
    yield _post("nested lists", CHAT, b"[" * (2 * MB) + b"]" * (2 * MB))
    yield _post("nested lists in a field", CHAT, b'{"messages":' + b"[" * 99_000 + b"]" * 99_000 + b"}")
    yield _post("nested objects", JOBS, b'{"a":' * 199_000 + b"1" + b"}" * 199_000)
    yield _post("nested objects of depth 900", GRADERS, b'{"grader":' * 900 + b"1" + b"}" * 900)
    yield _post("objects", TEXTS, b'{"input":[' + b"{}," * MB + b"{}]}")
    for path in (CHAT, JOBS, GRADERS, TEXTS):
        yield _post(f"multipart on {path}", path, b"[" + b"1," * (15 * MB) + b"1]", "multipart/form-data; boundary=x")
    yield _post("multipart/x", CHAT, b"[" + b"1," * (15 * MB) + b"1]", "multipart/x")
    yield _post("digits", CHAT, b'{"n":' + b"1" * (4 * MB) + b"}")
    yield _post("numbers of 5,000 digits", CHAT, b'{"stop":[' + (b"1" * 5000 + b",") * 700 + b"1]}")
    yield _post("a hash of numbers", CHAT, b'{"logit_bias":{' + b'"1":1e308,' * 300_000 + b'"2":1}}')
    yield _post("escapes", CHAT, b'{"model":"' + b"\\u0061" * 600_000 + b'"}')
    yield _post("base64", CHAT, b'{"model":"' + b"QUFB" * 900_000 + b'"}')
    yield _post("no UTF-8", CHAT, b'{"model":"' + b"\xff\xfe" * (2 * MB - 20) + b'"}')
    yield _post("half a character", CHAT, b'{"model":"' + b"\xf0\x9f\x98" * MB + b'"}')
    yield _post("lone surrogates", CHAT, b'{"model":"' + b"\\ud800" * 600_000 + b'"}')


def _heads() -> Iterator[Hostile]:
    pairs = "&".join(f"metadata[k{n}]=v" for n in range(1900))
    yield _get("1,900 metadata filters", f"{JOBS}?{pairs}")
    yield _get("64 metadata filters", f"{JOBS}?{'&'.join(f'metadata[k{n}]=v' for n in range(64))}")
    yield _get("URL of 60 kB", "/v1/models/" + "a" * 60_000)
    yield _get("URL of 60 kB of slashes", "/v1/" + "/" * 60_000)
    yield _get("URL of 3 MB", "/v1/models/" + "a" * (3 * MB))
    yield _get("escaped URL", "/v1/files/" + "%61" * 20_000)
    yield _get("query of 60 kB", f"{JOBS}?{'&' * 60_000}")
    yield _get("query of one name", f"{JOBS}?{'a=1&' * 15_000}")
    yield Hostile("header of 60 kB", "/v1/models", method="GET", headers={"openai-project": "x" * 60_000})
    yield Hostile("header of 3 MB", "/v1/models", method="GET", headers={"x-long": "x" * (3 * MB)})
    yield Hostile("5,000 headers", "/v1/models", method="GET", headers={f"x-{n}": "1" for n in range(5000)})
    for limit in ("0", "-1", "10000", "9" * 4000, "1e9"):
        yield _get(f"limit {limit[:8]}", f"/v1/files?limit={limit}")
        yield _get(f"limit {limit[:8]} of jobs", f"{JOBS}?limit={limit}")


def _templates() -> Iterator[Hostile]:
    for size in (2700, 20_000, 3 * MB):
        yield _grader(f"{{{{ and {size} blanks", "{{" + " " * size)
    yield _grader("braces", "{{ " * MB)
    yield _grader("path", "{{item" + ".a" * MB + "}}")
    yield _grader("brackets", "{{item" + "[0]" * 60_000 + "}}")
    yield _grader("2,000 fills of 1 MB", "{{item.a}}" * 2000, item={"a": "a" * MB})
    yield _grader("20,000 fills of 1 MB", "{{item.a}}" * 20_000, item={"a": "a" * MB})
    places = "".join(f"{{{{sample.output_json[{'0' * n}]}}}}" for n in range(1, 900))
    yield _grader("the sample again", places, "[" + "0," * 400_000 + "0]")
    yield _grader("a deep sample", "{{sample.output_json[0]}}", "[" * 90_000 + "]" * 90_000)
    many = {"type": "score_model", "name": "a", "model": BASE, "input": [USER] * 50_000}
    yield _post("grading messages", GRADERS, _json(grader=many, model_sample="a"))
    label = {"type": "label_model", "name": "a", "model": BASE, "input": [USER], "labels": ["x"] * 500_000}
    yield _post("labels", GRADERS, _json(grader={**label, "passing_labels": ["x"]}, model_sample="a"))
    leaf = {"type": "string_check", "name": "a", "input": "a", "reference": "b", "operation": "eq"}
    multi = {"type": "multi", "name": "m", "graders": {f"g{n}": leaf for n in range(20_000)}}
    yield _post("20,000 graders", GRADERS, _json(grader={**multi, "calculate_output": "g1"}, model_sample="a"))
    few = {"type": "multi", "name": "m", "graders": {"g": leaf}}
    for name, formula in (("sum", "g+" * MB + "g"), ("brackets", "(" * 90_000 + "g"), ("power", "9**" * 90_000 + "9")):
        body = _json(grader={**few, "calculate_output": formula}, model_sample="a")
        yield _post(f"formula: {name}", GRADERS, body)


def _similarities() -> Iterator[Hostile]:
    words = " ".join(str(n) for n in range(16_000))
    for metric in ("fuzzy_match", "bleu", "gleu", "rouge_1", "rouge_5", "rouge_l"):
        texts = {"input": words, "reference": words[::-1]}
        grader = {"type": "text_similarity", "name": "a", "evaluation_metric": metric, **texts}
        yield _post(metric, GRADERS, _json(grader=grader, model_sample="a"))


def _moderations() -> Iterator[Hostile]:
    kinds = {"dots": "f.u.c.k. ", "spaced": "f u c k ", "stars": "f*ck", "repeats": "fuuuuuuck ", "plain": "fuck you "}
    for name, text in {**kinds, "one word": "f.u.c.k."}.items():
        yield _post(f"moderation: {name}", TEXTS, _json(input=text * (MB // len(text))))
    yield _post("moderation: 1,024 inputs", TEXTS, _json(input=[f"{n} f.u.c.k. " * 300 for n in range(1024)]))
    yield _post("moderation: 500,000 inputs", TEXTS, _json(input=["a"] * 500_000))


def _completions() -> Iterator[Hostile]:
    yield _text("token ids", [1] * 900_000)
    yield _text("lists of ids", [[1] * 7000] * 128)
    yield _text("prompts that are too long", ["word " * 6000] * 128)
    yield _text("128 prompts of maximal length", ["word " * 6000 for _ in range(128)], max_tokens=1)
    yield _text("200,000 prompts", ["a"] * 200_000)
    yield _text("128 prompts x n of 128", ["a"] * 128, n=128, max_tokens=1)
    yield _text("128 prompts x best_of 20", ["a"] * 128, best_of=20, max_tokens=1)
    yield _text("128 prompts x n of 128, echoed", ["word " * 500] * 128, n=128, max_tokens=0, echo=True)
    yield _text("echo of a long prompt", "word " * 6000, max_tokens=0, echo=True, logprobs=5)


def _chat(name: str, **fields: object) -> Hostile:
    return _post(name, CHAT, _json(**{"model": BASE, "max_tokens": 1, "messages": [USER], **fields}))


def _text(name: str, prompt: object, **fields: object) -> Hostile:
    return _post(name, COMPLETIONS, _json(model=BASE, prompt=prompt, **fields))


def _grader(name: str, text: str, sample: str = "a", item: JsonObject | None = None) -> Hostile:
    grader = {"type": "string_check", "name": "a", "input": text, "reference": "b", "operation": "eq"}
    return _post(f"template: {name}", GRADERS, _json(grader=grader, model_sample=sample, item=item or {}))


def _format(properties: JsonObject) -> JsonObject:
    schema: JsonObject = {"type": "object", "properties": properties, "additionalProperties": False}
    schema["required"] = [*properties]
    return {"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": True}}


def _post(name: str, path: str, body: bytes, content_type: str = "application/json") -> Hostile:
    return Hostile(name, path, body, content_type)


def _get(name: str, path: str) -> Hostile:
    return Hostile(name, path, method="GET")


def _json(**fields: object) -> bytes:
    return json.dumps(fields).encode()
