"""Answers from a GGUF file, by llama.cpp's server in the wheel xllamacpp; run in the environment that has it.

Reads one JSON object from stdin, {"model", "threads", "context", "exact", "requests": [{"path", "body"}]}, and writes
the list of answers to stdout, one JSON line. `exported.py` and `gguf_families.py` start it.
"""

import json
import os
import sys
import urllib.request
from typing import Any

import xllamacpp  # type: ignore[import-not-found, unused-ignore]

PATIENCE = 600  # seconds


def main() -> None:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what llama.cpp prints is not an answer
    job = json.load(sys.stdin)
    params = xllamacpp.CommonParams()
    params.model.path = job["model"]
    params.n_parallel = 1
    params.n_ctx = job["context"]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = job["threads"]
    params.cache_ram_mib = 0
    params.use_jinja = True
    if job.get("exact"):  # keys and values are in 16 bits by default
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.verbosity = 0
    server = xllamacpp.Server(params)
    answers = [ask(server.listening_address + one["path"], one["body"]) for one in job["requests"]]
    print(json.dumps(answers), file=out, flush=True)
    os._exit(0)  # its threads do not end


def ask(url: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:
        return json.load(response)


if __name__ == "__main__":
    main()
