"""What a server's process imports: torch costs seconds and 0.3 GB, and the compiled engine needs none of it."""

import json
import subprocess
import sys
from pathlib import Path

from tunesmith.settings import Settings

SERVER = """
import json, sys
from starlette.testclient import TestClient
from tunesmith.serve.pool import Pool
from tunesmith.settings import Settings
from tunesmith.store import open_store
from tunesmith.web.site import create_site

settings = Settings(data_dir=sys.argv[1], organization="acme")
store, pool = open_store(settings), Pool(settings)
heavy = ("torch", "transformers", "numba", "sympy")
late = ("tunesmith.web.pages_app", "tunesmith.check.file_check", "tunesmith.worker.loop")
with TestClient(create_site(settings, store, pool)) as client:
    client.headers["Authorization"] = f"Bearer {store.keys.ensure_first(settings.paths.api_key_file)}"
    before = [name for name in late if name in sys.modules]
    loaded = [{name for name in heavy if name in sys.modules}]
    answers = []
    for model in ("smollm2-135m-instruct", sys.argv[2]):
        asked = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4, "temperature": 0.7}
        reply = client.post("/v1/chat/completions", json={**asked, "logprobs": True, "top_p": 0.9, "seed": 1})
        assert reply.status_code == 200, reply.text
        answers.append(len(reply.json()["choices"][0]["logprobs"]["content"]))
        loaded.append({name for name in heavy if name in sys.modules})
    page = client.get("/ui/sign-in", follow_redirects=False).status_code, late[0] in sys.modules
pool.close()
store.close()
print(json.dumps([answers, [sorted(names) for names in loaded], before, page]))
"""


def test_a_server_that_answers_with_a_base_and_a_tuned_model_imports_no_torch(tuned: str, settings: Settings) -> None:
    command = [sys.executable, "-c", SERVER, str(settings.data_dir), tuned]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    answers, loaded, before, page = json.loads(done.stdout.splitlines()[-1])
    assert all(0 < count <= 4 for count in answers)
    assert loaded == [[], ["numba"], ["numba"]]
    assert before == [], "a server is ready before its pages and its worker are imported"
    assert page[0] < 500
    assert page[1]
    assert Path(settings.data_dir, "serve").is_dir(), "16-bit weights were checked, without torch too"
