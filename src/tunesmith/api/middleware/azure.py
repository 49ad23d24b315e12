"""Azure's paths for OpenAI's calls, as `AzureOpenAI` sends them.

    /openai/v1/files                              -> /v1/files
    /openai/files?api-version=…                   -> /v1/files
    /openai/deployments/MODEL/chat/completions    -> /v1/engines/MODEL/chat/completions, as openai 0.28 also calls it
    /v1/deployments/MODEL/…                       -> the same, from a client with a `base_url` of its own

The key is in the header `api-key` (`auth.py`). Versions (`api-version`) make no difference here.
"""

from starlette.types import ASGIApp, Receive, Scope, Send


class AzurePaths:
    """Passes calls on under OpenAI's paths. To stand outside of authentication."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the call on, under another path if it is one of Azure's."""
        if scope["type"] == "http" and (path := openai_path(scope["path"])) != scope["path"]:
            scope = {**scope, "path": path, "raw_path": path.encode()}
        await self.app(scope, receive, send)


def openai_path(path: str) -> str:
    """OpenAI's path for one of Azure's; any other as it is."""
    if path.startswith("/openai/"):
        path = f"/v1/{path.removeprefix('/openai/').removeprefix('v1/')}"
    if path.startswith("/v1/deployments/"):
        path = f"/v1/engines/{path.removeprefix('/v1/deployments/')}"
    return path
