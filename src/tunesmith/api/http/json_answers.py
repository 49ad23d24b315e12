"""Answers in JSON: Starlette's, written by orjson, which lists of a hundred and of ten thousand feel."""

import orjson
from fastapi.responses import JSONResponse


class JSONAnswer(JSONResponse):
    def render(self, content: object) -> bytes:
        try:
            return orjson.dumps(content)
        except TypeError:  # a number above 64 bits, half a surrogate pair: Python's own writer knows what to do
            return super().render(content)
