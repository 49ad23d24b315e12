"""What can go wrong with a vLLM server, as errors.

Callers get a sentence without the server's address, paths and words of its own: those are the error's `detail`, which
logs and commands show. The kind of an error says what becomes of its server (`replicas.py`).
"""

from pathlib import Path
from typing import ClassVar

import httpx
import orjson

from tunesmith.errors import ServerFault, ServiceUnavailable, TunesmithError

SHOWN = 300  # characters of a server's own error message
BUSY = frozenset((429, 502, 503, 504))
KEY_REFUSED = frozenset((401, 403))


class Unreachable(ServiceUnavailable):
    """Nothing answers at the server's address."""


class BrokeOff(ServiceUnavailable):
    """The connection ended in the middle of an answer."""


class Busy(ServiceUnavailable):
    """The server takes no more requests at present."""


class Misplaced(ServerFault):
    """Something other than a vLLM server of this base with our key."""


class Failed(ServerFault):
    """The server's own fault."""


class UnknownModel(ServerFault):
    """The server no longer has an adapter: it was restarted, or unloaded the adapter."""


class AdapterRefused(ServerFault):
    """The server did not load an adapter."""


class Faults:
    """The errors of one server."""

    ADAPTERS_NEED: ClassVar[str] = "--enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True in its environment"

    def __init__(self, base: str, url: str) -> None:
        self._who = f"The vLLM server that answers for {base}"
        self._base, self._url = base, url

    def broken(self, error: httpx.HTTPError, silent_seconds: float) -> TunesmithError:
        """For a request that found no server, or lost it."""
        what = str(error) or type(error).__name__
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return Unreachable(
                f"{self._who} cannot be reached. Ask again in a moment.",
                code="remote_unreachable",
                detail=f"{self._url}: {what}. Start it, or correct the setting `serve_remote`",
            )
        return self.broke_off(
            f"nothing came for {silent_seconds:g} s" if isinstance(error, httpx.ReadTimeout) else what
        )

    def broke_off(self, what: str) -> BrokeOff:
        """For a connection that ended too early."""
        return BrokeOff(
            f"The connection to the vLLM server that answers for {self._base} broke off. Ask again.",
            code="remote_broke_off",
            detail=f"{self._url}: {what}. Its log says why",
        )

    def refused(self, status: int, words: str, *, held: bool = False) -> TunesmithError:
        """For an answer that is a refusal.

        `held`: the request had a grammar.
        """
        detail = f"{self._url} answered {status}, {words!r}"
        if status in KEY_REFUSED:
            text = f"{self._who} refuses our key. Set `serve_remote_key` to the value of its --api-key."
            return Misplaced(text, code="remote_misplaced", detail=detail)
        if status in BUSY:
            return Busy(f"{self._who} is busy; try again later.", code="remote_is_busy", detail=detail)
        if status == 404:
            text = f"{self._who} does not know the model that it was asked for. Ask again."
            return UnknownModel(text, code="remote_unknown_model", detail=detail)
        if status >= 500:
            text = f"{self._who} failed. The logs of both servers say more; it may have to be restarted."
            return Failed(text, code="remote_failed", detail=detail)
        if held:
            text = (
                f"{self._who} does not hold answers to this grammar. Start it with --structured-outputs-config.backend"
                " guidance (0.12 or later); if it was, simplify the schemas of `response_format` and `tools`."
            )
            return ServerFault(text, code="remote_refused_grammar", detail=detail)
        text = f"{self._who} refused the request. The log of this server has its words."
        return ServerFault(text, code="remote_refused", detail=detail)

    def failed_midway(self, words: str) -> Failed:
        """For a failure that the server reports in the middle of an answer."""
        return Failed(
            f"{self._who} failed in the middle of the answer. Ask again.",
            code="remote_failed",
            detail=f"{self._url} said {words[:SHOWN]!r}. Its log says more",
        )

    def not_vllm(self, text: str) -> Misplaced:
        """For an answer that vLLM would not give."""
        return Misplaced(
            f"What answers for {self._base} does not do so as vLLM does. Correct the setting `serve_remote`.",
            code="remote_misplaced",
            detail=f"{self._url} answered {text[:SHOWN]!r}",
        )

    def other_base(self, served: str) -> Misplaced:
        """For a server without this base."""
        return Misplaced(
            f"{self._who} serves another model. Start it on that base with --served-model-name {self._base}, or correct"
            " the setting `serve_remote`.",
            code="remote_misplaced",
            detail=f"{self._url} serves {served}",
        )

    def lost_base(self, error: UnknownModel) -> Misplaced:
        """For a server that had the base and no longer has it."""
        return Misplaced(
            f"{self._who} no longer serves it. Start it on that base again, or correct the setting `serve_remote`.",
            code="remote_misplaced",
            detail=error.detail,
        )

    def no_adapters(self, answer: httpx.Response) -> AdapterRefused:
        """For a server without the routes that load adapters."""
        return AdapterRefused(
            f"{self._who} takes no adapters at run time. Start it with {self.ADAPTERS_NEED}.",
            code="remote_without_adapters",
            detail=f"{self._url} answered {answer.status_code}, {said(answer)!r}",
        )

    def adapter_refused(self, directory: Path, answer: httpx.Response) -> AdapterRefused:
        """For an adapter that the server did not load."""
        words = said(answer)
        cause = (
            "it has a higher rank than that server takes. Start it with a higher --max-lora-rank, or train again with a"
            " lower lora_rank."
            if "max_lora_rank" in words
            else "the log of this server has the reason. The adapter's directory must be there under the same path."
        )
        return AdapterRefused(
            f"{self._who} did not load this model's adapter: {cause}",
            code="remote_refused_adapter",
            detail=f"{self._url} answered {answer.status_code}, {words!r} to {directory}",
        )


def said(answer: httpx.Response) -> str:
    """The words of a refusal."""
    return vllm_message(answer) or answer.text[:SHOWN]


def vllm_message(answer: httpx.Response) -> str | None:
    """The message of vLLM itself.

    None if the web server below it answered, as for an unknown route.
    """
    try:
        value = orjson.loads(answer.content)
    except orjson.JSONDecodeError:
        return None
    error = value.get("error", value) if isinstance(value, dict) else None  # older versions have no "error" around it
    message = error.get("message") if isinstance(error, dict) else None
    return message[:SHOWN] if isinstance(message, str) else None
