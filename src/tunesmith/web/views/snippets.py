"""Lines of Python, JavaScript and curl that ask a model of this server."""

import json
import shlex
from dataclasses import dataclass

from tunesmith.export.kinds import kinds_of
from tunesmith.jsonvalue import JsonObject

KEY = "TUNESMITH_API_KEY"  # the environment variable that the lines read
QUESTION = "Hello!"


@dataclass(frozen=True, slots=True)
class Snippet:
    """Lines of one language, to be copied."""

    name: str  # of the language; also part of the element's id
    title: str
    text: str


def snippets(model: str, server: str, system_message: str | None = None) -> list[Snippet]:
    """What calls `model` at `server` (`http://host:port`).

    `system_message`: what it was trained with.
    """
    messages = [{"role": "user", "content": QUESTION}]
    if system_message:
        messages.insert(0, {"role": "system", "content": system_message})
    return [
        Snippet("python", "Python", _python(model, server, messages)),
        Snippet("javascript", "JavaScript", _javascript(model, server, messages)),
        Snippet("curl", "curl", _curl(model, server, messages)),
    ]


def exports(model: str, *, adapter: bool) -> list[Snippet]:
    """The command that writes each format.

    `adapter`: whether the model is one beside a base.
    """
    command = f"tunesmith export {shlex.quote(model)} --to "
    return [Snippet(kind, kind, command + kind) for kind in kinds_of(adapter=adapter)]


def _python(model: str, server: str, messages: list[dict[str, str]]) -> str:
    return f"""import os
from openai import OpenAI

client = OpenAI(base_url={_string(server + "/v1")}, api_key=os.environ["{KEY}"])
answer = client.chat.completions.create(
    model={_string(model)},
    messages=[
{_listed(messages, "        ")}
    ],
)
print(answer.choices[0].message.content)"""


def _javascript(model: str, server: str, messages: list[dict[str, str]]) -> str:
    return f"""import OpenAI from "openai";

const client = new OpenAI({{ baseURL: {_string(server + "/v1")}, apiKey: process.env.{KEY} }});
const answer = await client.chat.completions.create({{
  model: {_string(model)},
  messages: [
{_listed(messages, "    ")}
  ],
}});
console.log(answer.choices[0].message.content);"""


def _curl(model: str, server: str, messages: list[dict[str, str]]) -> str:
    body: JsonObject = {"model": model, "messages": [{**message} for message in messages]}
    return f"""curl {shlex.quote(server + "/v1/chat/completions")} \\
  -H "Authorization: Bearer ${KEY}" \\
  -H "Content-Type: application/json" \\
  -d {shlex.quote(json.dumps(body, ensure_ascii=False))}"""


def _listed(messages: list[dict[str, str]], indent: str) -> str:
    return "\n".join(
        f'{indent}{{"role": {_string(one["role"])}, "content": {_string(one["content"])}}},' for one in messages
    )


def _string(text: str) -> str:
    """A string as Python and JavaScript both read it."""
    return json.dumps(text, ensure_ascii=False)
