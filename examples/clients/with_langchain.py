"""A tuned model through LangChain.

`scripts/client_trials.py` runs this in an environment with langchain-openai. Reads MODEL, and as LangChain itself does
OPENAI_BASE_URL and OPENAI_API_KEY.
"""

import os

from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from openai import OpenAIError
from pydantic import BaseModel


class City(BaseModel):
    name: str
    cold: bool


@tool  # type: ignore[untyped-decorator,unused-ignore]
def weather(city: str) -> str:
    """The weather in a city."""
    return f"It snows in {city}."


model = ChatOpenAI(model=os.environ["MODEL"], temperature=0, max_tokens=48)
question = "Is it cold in Moscow in January?"

print("chat        ", model.invoke([("system", "You answer every question with a joke."), ("user", question)]).content)
print("stream      ", "|".join(str(chunk.content) for chunk in model.stream(question) if chunk.content))
answer = model.invoke(question)
print("usage       ", answer.usage_metadata)
forced = model.bind_tools([weather], tool_choice="weather").invoke(question)
print("tool call   ", forced.tool_calls[0]["name"], forced.tool_calls[0]["args"])
for method in ("json_schema", "function_calling"):
    print("structured  ", method, repr(model.with_structured_output(City, method=method).invoke(question)))
print("batch       ", [str(one.content)[:24] for one in model.batch(["Is it cold in Oslo?", "Is it cold in Rome?"])])
try:
    OpenAIEmbeddings(model=os.environ["MODEL"], check_embedding_ctx_length=False).embed_query(question)
except OpenAIError as error:
    print("embeddings  ", error)
else:
    raise SystemExit("Embeddings were answered, but no model here can make any.")
