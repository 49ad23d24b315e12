#!/usr/bin/env bash
# A tuned model through the command `llm`, which must be on PATH (scripts/client_trials.py sees to that).
# Reads OPENAI_BASE_URL, OPENAI_API_KEY and MODEL; keeps its configuration in LLM_USER_PATH.
set -euo pipefail

mkdir -p "$LLM_USER_PATH"
cat >"$LLM_USER_PATH/extra-openai-models.yaml" <<YAML
- model_id: jokes
  model_name: "$MODEL"
  api_base: "$OPENAI_BASE_URL"
  api_key_name: tunesmith
  supports_tools: true
  supports_schema: true
YAML
llm keys set tunesmith --value "$OPENAI_API_KEY"
options=(-m jokes -o temperature 0 -o max_tokens 48)
question='Is it cold in Moscow in January?'

printf 'chat         '; llm "${options[@]}" --no-stream -s 'You answer every question with a joke.' "$question"
printf 'stream       '; llm "${options[@]}" "$question"
printf 'conversation '; llm "${options[@]}" --continue 'And in July?'
printf 'structured   '; llm "${options[@]}" --schema 'name, cold bool' "$question"
printf 'tool         '; llm "${options[@]}" --functions 'def weather(city: str) -> str:
    "The weather in a city."
    return f"It snows in {city}."' "$question"
if refusal=$(OPENAI_API_BASE=$OPENAI_BASE_URL llm embed -m 3-small --key "$OPENAI_API_KEY" -c text 2>&1); then
    echo 'Embeddings were answered, but no model here can make any.' >&2
    exit 1
fi
printf 'embeddings   %s\n' "${refusal##*$'\n'}" # the last line, below a traceback
