"""A tuned model through LlamaIndex.

`scripts/client_trials.py` runs this in an environment of its own. It uses `OpenAILike` because `OpenAI` accepts only
the names of OpenAI's models. Reads OPENAI_BASE_URL, OPENAI_API_KEY and MODEL.
"""

import os

from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.openai_like import OpenAILike
from openai import OpenAIError
from pydantic import BaseModel


class City(BaseModel):
    name: str
    cold: bool


def weather(city: str) -> str:
    """The weather in a city."""
    return f"It snows in {city}."


base_url, key = os.environ["OPENAI_BASE_URL"], os.environ["OPENAI_API_KEY"]
model = OpenAILike(
    model=os.environ["MODEL"],
    api_base=base_url,
    api_key=key,
    is_chat_model=True,
    is_function_calling_model=True,
    context_window=8192,
    max_tokens=48,
    temperature=0,
)
question = "Is it cold in Moscow in January?"

messages = [ChatMessage(role="system", content="You answer every question with a joke."), ChatMessage(content=question)]
print("chat        ", model.chat(messages).message.content)
print("stream      ", "|".join(part.delta for part in model.stream_complete(question) if part.delta))
tools = [FunctionTool.from_defaults(weather)]
called = model.chat_with_tools(tools, user_msg=question, tool_required=True)
print("tool call   ", model.get_tool_calls_from_response(called)[0].tool_kwargs)
print("structured  ", repr(model.as_structured_llm(City).complete(question).raw))
try:
    OpenAIEmbedding(api_base=base_url, api_key=key, max_retries=0).get_text_embedding(question)
except OpenAIError as error:
    print("embeddings  ", error)
else:
    raise SystemExit("Embeddings were answered, but no model here can make any.")
