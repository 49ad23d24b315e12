"""A small HTTP client for our own commands; scripts should use `openai`.

Each answer keeps the server's JSON in `wire`, so that `--json` shows exactly what came.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self, TypeVar, cast
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ConfigDict, Field

from tunesmith.errors import TunesmithError

CONNECT_SECONDS = 5.0
READ_SECONDS = 600.0  # the first chat request may convert and load a base before the first byte


class ServerUnreachable(TunesmithError):
    """Raised where nothing answers at the address."""


class ServerRefused(TunesmithError):
    """The server refused a request: its error object, with the HTTP status."""

    def __init__(self, status_code: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message, param=param, code=code)
        self.status_code = status_code


class Answer(BaseModel):
    """An object of the API, with the JSON it was read from."""

    model_config = ConfigDict(frozen=True)

    wire: dict[str, object] = Field(exclude=True, repr=False)

    @classmethod
    def read(cls, value: object) -> Self:
        """Reads the server's JSON object; fields without a name here are only in `wire`."""
        fields = cast(Mapping[str, object], value)
        return cls.model_validate({**fields, "wire": fields})


class File(Answer):
    """An uploaded file; `status` is `error` when its rows are refused."""

    id: str
    status: str
    status_details: str | None = None
    filename: str
    bytes: int
    purpose: str = "fine-tune"
    created_at: int = 0
    expires_at: int | None = None


class JobError(BaseModel):
    """Why a job failed."""

    code: str | None = None
    message: str | None = None
    param: str | None = None


class Job(Answer):
    """A fine-tuning job; times are in Unix seconds."""

    id: str
    model: str
    status: str
    created_at: int
    finished_at: int | None = None
    fine_tuned_model: str | None = None
    training_file: str
    validation_file: str | None = None
    result_files: list[str] = []
    hyperparameters: dict[str, str | float | int] = {}
    trained_tokens: int | None = None
    estimated_finish: int | None = None
    error: JobError | None = None
    tunesmith: dict[str, object] = {}

    @property
    def state(self) -> str:
        """The status, or `paused`, for which OpenAI's words have none."""
        return "paused" if self.tunesmith.get("paused") is True and not self.finished else self.status

    @property
    def verdict(self) -> str | None:
        """What the evaluation said, in a sentence; None without one."""
        return self._evaluation("sentence")

    @property
    def evaluation_file(self) -> str | None:
        """The id of the file with the whole evaluation."""
        return self._evaluation("file")

    def _evaluation(self, key: str) -> str | None:
        found = self.tunesmith.get("evaluation")
        return str(found.get(key)) if isinstance(found, dict) else None

    @property
    def finished(self) -> bool:
        """True if the job has succeeded, failed or been cancelled."""
        return self.status in ("succeeded", "failed", "cancelled")


class Event(Answer):
    """Something that happened to a job; `data` has the numbers of a `metrics` event."""

    id: str
    created_at: int
    level: str
    message: str
    type: str = "message"
    data: dict[str, object] | None = None


class Checkpoint(Answer):
    """A model that a job saved after one of its steps."""

    id: str
    created_at: int
    fine_tuned_model_checkpoint: str
    step_number: int


class ModelDetails(BaseModel):
    """What a server tells of one tuned model beyond OpenAI's keys."""

    system_message: str | None = None


class Model(Answer):
    """A base model, an alias (`owned_by` is `alias-of:BASE`) or a tuned model."""

    id: str
    created: int
    owned_by: str
    tunesmith: ModelDetails = ModelDetails()


A = TypeVar("A", bound=Answer)


class Client:
    """Calls a server; `base_url` may end in `/v1` or not.

    Every method raises ServerUnreachable when nothing answers, and ServerRefused for an error of the server.
    """

    def __init__(self, base_url: str, api_key: str, transport: httpx.BaseTransport | None = None) -> None:
        """`transport`: how requests are sent; None: over the network."""
        self.base_url = f"{base_url.rstrip('/').removesuffix('/v1')}/v1"
        self._http = httpx.Client(
            headers={"Authorization": f"Bearer {api_key}"},
            timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
            transport=transport,
            trust_env=False,  # a proxy for the internet must not receive calls to this machine
        )

    def close(self) -> None:
        """Closes the connections to the server."""
        self._http.close()

    def is_alive(self) -> bool:
        """Whether the server answers; never raises."""
        return self.health() is not None

    def health(self, headers: Mapping[str, str] | None = None) -> Mapping[str, str] | None:
        """The headers of `/healthz`, in lower case; None where nothing answers.

        Never raises.
        """
        url = f"{self.base_url.removesuffix('/v1')}/healthz"
        try:
            answer = self._http.get(url, headers=headers, timeout=CONNECT_SECONDS)
        except (httpx.HTTPError, httpx.InvalidURL):
            return None
        return dict(answer.headers) if answer.is_success else None

    def sign_in_link(self) -> str:
        """A link to the dashboard that signs in once, as this client's key."""
        site = self.base_url.removesuffix("/v1")
        try:
            answer = self._http.post(f"{site}/ui/links")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._unreachable(error) from error
        if answer.is_error:
            raise _refusal(answer)
        return f"{site}{answer.json()['path']}"

    def upload(self, path: Path, purpose: str = "fine-tune") -> File:
        """Uploads a file from disk without reading it into memory."""
        with path.open("rb") as handle:
            answer = self._call("POST", "/files", data={"purpose": purpose}, files={"file": (path.name, handle)})
        return File.read(answer)

    def content(self, file_id: str) -> bytes:
        """The bytes of a file; result files as plain CSV."""
        return self._request("GET", f"/files/{file_id}/content?encoding=plain").content

    def content_pieces(self, file_id: str) -> Iterator[bytes]:
        """Yields the bytes of a file as they come; result files as plain CSV."""
        path = f"{self.base_url}/files/{quote(file_id, safe='')}/content?encoding=plain"
        try:
            with self._http.stream("GET", path) as response:
                if response.is_error:
                    response.read()
                    raise _refusal(response)
                yield from response.iter_bytes()
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def files(self, limit: int, *, after: str | None = None, purpose: str | None = None) -> list[File]:
        """At most `limit` files, newest first.

        `after` is the file that they follow.
        """
        return self._page("/files", File, limit, after=after, purpose=purpose)

    def file(self, file_id: str) -> File:
        """The file with this id."""
        return File.read(self._call("GET", f"/files/{quote(file_id, safe='')}"))

    def delete_file(self, file_id: str) -> None:
        """Deletes a file."""
        self._call("DELETE", f"/files/{quote(file_id, safe='')}")

    def create_job(self, body: Mapping[str, object]) -> Job:
        """Creates a job from the body of OpenAI's request."""
        return Job.read(self._call("POST", "/fine_tuning/jobs", json=body))

    def job(self, job_id: str) -> Job:
        """The job with this id."""
        return Job.read(self._call("GET", f"/fine_tuning/jobs/{quote(job_id, safe='')}"))

    def jobs(self, limit: int) -> list[Job]:
        """At most `limit` jobs, newest first."""
        return self._page("/fine_tuning/jobs", Job, limit)

    def change_job(self, job_id: str, action: str) -> Job:
        """Cancels, pauses or resumes a job: the `action`."""
        return Job.read(self._call("POST", f"/fine_tuning/jobs/{quote(job_id, safe='')}/{action}"))

    def events(self, job_id: str, limit: int) -> list[Event]:
        """At most `limit` events of a job, newest first."""
        return self._page(f"/fine_tuning/jobs/{job_id}/events", Event, limit)

    def checkpoints(self, job_id: str) -> list[Checkpoint]:
        """At most 100 checkpoints of a job, newest first."""
        return self._page(f"/fine_tuning/jobs/{job_id}/checkpoints", Checkpoint, 100)

    def models(self) -> list[Model]:
        """All models: bases, aliases, tuned models and checkpoints."""
        return [Model.read(one) for one in cast(list[object], self._call("GET", "/models")["data"])]

    def model(self, name: str) -> Model:
        """The model of this name, with the system message that it was trained with."""
        return Model.read(self._call("GET", f"/models/{quote(name, safe=':')}"))

    def delete_model(self, name: str) -> list[str]:
        """Deletes a tuned model or checkpoint and its files.

        Returns the imported names that still answer with its weights, whose files then stay.
        """
        gone = self._call("DELETE", f"/models/{quote(name, safe=':')}")
        details = gone.get("tunesmith")
        kept = details.get("still_answers_as") if isinstance(details, dict) else None
        return [str(one) for one in kept] if isinstance(kept, list) else []

    def chat(self, model: str, messages: Sequence[Mapping[str, str]], **options: object) -> Iterator[str]:
        """Yields the pieces of the answer's text as they come."""
        body = {"model": model, "messages": list(messages), "stream": True, **options}
        try:
            with self._http.stream("POST", f"{self.base_url}/chat/completions", json=body) as response:
                if response.is_error:
                    response.read()
                    raise _refusal(response)
                yield from _pieces(response.iter_lines())
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def complete(self, body: Mapping[str, object]) -> dict[str, object]:
        """The whole chat completion for the body of OpenAI's request."""
        return self._call("POST", "/chat/completions", json=body)

    def _page(self, path: str, kind: type[A], limit: int, **given: str | None) -> list[A]:
        """Up to `limit` entries, over as many pages as it takes."""
        found: list[A] = []
        query = {name: value for name, value in given.items() if value is not None}
        while len(found) < limit:
            page = self._call("GET", path, params={"limit": str(min(100, limit - len(found))), **query})
            rows = cast(list[Mapping[str, object]], page["data"])
            found += [kind.read(row) for row in rows]
            if not page.get("has_more") or not rows:
                break
            query["after"] = str(rows[-1]["id"])
        return found

    def _call(self, method: str, path: str, **options: object) -> dict[str, object]:
        response = self._request(method, path, **options)
        try:
            return cast(dict[str, object], response.json())
        except json.JSONDecodeError as error:
            raise ServerUnreachable(
                f"{self.base_url} answers, but not as a Tunesmith server does. Check the address (--base-url)."
            ) from error

    def _request(self, method: str, path: str, **options: object) -> httpx.Response:
        try:
            response = self._http.request(method, f"{self.base_url}{path}", **options)  # type: ignore[arg-type]
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._unreachable(error) from error
        if response.is_error:
            raise _refusal(response)
        return response

    def _unreachable(self, error: Exception) -> ServerUnreachable:
        return ServerUnreachable(
            f"No server answers at {self.base_url} ({error}). Is it running? Start: tunesmith serve"
        )


def _pieces(lines: Iterator[str]) -> Iterator[str]:
    """The text deltas of a stream of server-sent events.

    Raises ServerRefused when the server reports an error in the middle.
    """
    for line in lines:
        payload = line.removeprefix("data:").strip()
        if not line.startswith("data:") or payload == "[DONE]":
            continue
        chunk = json.loads(payload)
        if "error" in chunk:
            raise ServerRefused(500, str(chunk["error"].get("message", chunk["error"])))
        for choice in chunk["choices"]:
            if text := choice["delta"].get("content"):
                yield text


def _refusal(response: httpx.Response) -> ServerRefused:
    try:
        error = response.json()["error"]
        message, param, code = error["message"], error.get("param"), error.get("code")
    except (ValueError, KeyError, TypeError):
        text = response.text[:200]
        return ServerRefused(response.status_code, f"The server answered {response.status_code}: {text}")
    return ServerRefused(response.status_code, message, param=param, code=code)
