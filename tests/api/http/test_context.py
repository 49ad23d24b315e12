"""No access without a scope: a call without a key has no store at all."""

from fastapi import FastAPI
from starlette.testclient import TestClient
from tests.api.conftest import Refused, Upload

from tunesmith.api.http.context import ContextDep


def test_route_outside_of_v1_gets_no_context(app: FastAPI, upload: Upload, refused: Refused) -> None:
    @app.get("/everything")
    def everything(context: ContextDep) -> list[str]:
        return [row.id for row in context.store.files.page(limit=10).data]

    upload()
    with TestClient(app) as stranger:
        error = refused(stranger.get("/everything"), 401)
    assert "no access to any project" in error["message"]
