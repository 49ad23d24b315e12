"""Scripts and styles: kept by browsers only as long as they are the same."""

from starlette.testclient import TestClient

from tunesmith.web.static_files import static_url


def test_a_file_is_kept_under_its_own_address_only(stranger: TestClient) -> None:
    kept = stranger.get(static_url("job.js"))
    assert kept.headers["cache-control"] == "public, max-age=86400"
    imported = stranger.get("/ui/static/charts.js")  # as job.js asks for it
    assert imported.headers["cache-control"] == "no-cache"
    again = stranger.get("/ui/static/charts.js", headers={"if-none-match": imported.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert stranger.get("/ui/static/none.js").headers["cache-control"] == "no-store"
