"""Lines to copy are programs: they are parsed and, for the shell, run."""

import ast
import json
import shlex
import subprocess

import pytest

from tunesmith.web.views.snippets import exports, snippets

MESSAGES = [None, "You answer in one word.", 'It\'s "quoted" $HOME `x` \\ \n天气 </script>']


@pytest.mark.parametrize("system", MESSAGES, ids=["none", "plain", "hostile"])
def test_lines_say_model_server_and_messages(system: str | None) -> None:
    python, javascript, curl = (one.text for one in snippets("ft:a:b::c", "http://h:1", system))
    expected = [{"role": "system", "content": system}] * bool(system) + [{"role": "user", "content": "Hello!"}]
    calls = [node for node in ast.walk(ast.parse(python)) if isinstance(node, ast.keyword)]
    given = {node.arg: node.value for node in calls}
    assert ast.literal_eval(given["messages"]) == expected
    assert ast.literal_eval(given["base_url"]) == "http://h:1/v1"
    assert 'baseURL: "http://h:1/v1"' in javascript
    assert json.loads(f"[{javascript.split('messages: [')[1].split('  ],')[0].rstrip().rstrip(',')}]") == expected
    words = shlex.split(curl.replace("\\\n", " "))
    assert json.loads(words[words.index("-d") + 1]) == {"model": "ft:a:b::c", "messages": expected}
    said = subprocess.run(
        ["bash", "-c", f"curl() {{ printf '%s' \"${{@: -1}}\"; }}; {curl}"], capture_output=True, check=True
    )
    assert json.loads(said.stdout) == {"model": "ft:a:b::c", "messages": expected}


def test_full_weights_have_no_adapter_to_export() -> None:
    assert [one.name for one in exports("ft:a", adapter=False)] == ["safetensors", "gguf", "ollama"]
    assert exports("ft:a b", adapter=True)[0].text == "tunesmith export 'ft:a b' --to peft"
