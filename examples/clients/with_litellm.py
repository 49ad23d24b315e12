"""A tuned model through LiteLLM.

`scripts/client_trials.py` runs this in an environment of its own. The prefix `openai/` names the server's protocol.
Reads OPENAI_BASE_URL, OPENAI_API_KEY and MODEL. Set LITELLM_LOCAL_MODEL_COST_MAP=true, or importing it fetches a price
list from the internet.
"""

import json
import os

import litellm

litellm.suppress_debug_info = True  # otherwise an error also prints where to report it
model = f"openai/{os.environ['MODEL']}"
question = [{"role": "user", "content": "Is it cold in Moscow in January?"}]
options = {"model": model, "messages": question, "temperature": 0, "max_tokens": 48}
weather = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
city = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "cold": {"type": "boolean"}},
    "required": ["name", "cold"],
    "additionalProperties": False,
}
shape = {"type": "json_schema", "json_schema": {"name": "city", "strict": True, "schema": city}}

answer = litellm.completion(**options)
print("chat        ", answer.choices[0].message.content)
print("usage       ", answer.usage.prompt_tokens, answer.usage.completion_tokens)
parts = [chunk.choices[0].delta.content for chunk in litellm.completion(**options, stream=True)]
print("stream      ", "|".join(part for part in parts if part))
called = litellm.completion(**options, tools=[weather], tool_choice="required")
print("tool call   ", called.choices[0].message.tool_calls[0].function)
written = litellm.completion(**options, response_format=shape).choices[0].message.content
print("structured  ", json.loads(written))
legacy = litellm.text_completion(model=f"text-completion-{model}", prompt="The winter in Oslo", max_tokens=8)
print("completion  ", repr(legacy.choices[0].text))
try:
    litellm.embedding(model="openai/text-embedding-3-small", input=["text"])
except litellm.exceptions.BadRequestError as error:  # how it reports a 404 for embeddings
    print("embeddings  ", error)
else:
    raise SystemExit("Embeddings were answered, but no model here can make any.")
