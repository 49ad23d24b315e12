"""Scripts, styles and pictures of the pages: the files of the folder `static`."""

from functools import cache
from hashlib import sha256
from pathlib import Path

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

FOLDER = Path(__file__).parent / "static"
SECONDS = 86_400


class StaticFolder(StaticFiles):
    """The files of a folder.

    Browsers keep them for a day, under an address that changes with them. One that another script imports has no such
    address; browsers ask each time whether it is still the same.
    """

    def __init__(self) -> None:
        super().__init__(directory=FOLDER)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """The file, with how long it may be kept."""
        response = await super().get_response(path, scope)
        kept = f"public, max-age={SECONDS}" if scope["query_string"].startswith(b"v=") else "no-cache"
        response.headers["cache-control"] = kept if response.status_code < 400 else "no-store"
        return response


@cache
def static_url(name: str) -> str:
    """The address of a file of the folder; another content has another address."""
    return f"/ui/static/{name}?v={sha256((FOLDER / name).read_bytes()).hexdigest()[:12]}"
