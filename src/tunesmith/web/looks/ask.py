"""Has a child process look at a file for a page.

The limits are those of the upload's check, and a server that stops ends the looks under way.
"""

from collections.abc import Mapping
from typing import cast

import structlog
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from tunesmith.api.background.file_checks import FileChecks
from tunesmith.check.isolated.children import CheckBusy, CheckDied, CheckFailed, CheckTimedOut
from tunesmith.errors import NotFound, ServerFault, ServiceUnavailable
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.web.access.visit import web_of

log = structlog.get_logger(__name__)

ROWS, MASK = "tunesmith.web.looks.rows:rows", "tunesmith.web.looks.mask:mask"
FIX, ESTIMATE = "tunesmith.web.looks.fix:fix", "tunesmith.web.looks.estimate:estimate"


async def look(request: Request, function: str, values: Mapping[str, JsonValue], size: int) -> JsonObject:
    """What one of the functions above shows of a file of `size` bytes.

    Raises NotFound for a file that is gone, InvalidRequest as the function does, and ServerFault with a sentence.
    """
    checks = cast(FileChecks, web_of(request).api.state.checks)
    return await run_in_threadpool(looked, checks, function, dict(values), size)


def looked(checks: FileChecks, function: str, values: JsonObject, size: int) -> JsonObject:
    """As `look`, for a thread."""
    try:
        seen = checks.look(function, values, size)
    except CheckBusy:
        raise ServiceUnavailable("The server is busy with other files. Try again in a moment.") from None
    except CheckTimedOut:
        raise ServerFault(
            "This took longer than a look at a file may (setting check_seconds) and was given up. A file this large is "
            "better looked at with the command line, such as `tunesmith check FILE`."
        ) from None
    except CheckFailed as failure:
        log.error("a look at a file failed", look=function, exception=failure.message)
        raise ServerFault("This could not be shown; the server's log has the details.") from None
    except CheckDied as death:
        raise ServerFault(
            f"This was given up: {death.message} (setting check_memory_mib). Split the file, and try again."
        ) from None
    if seen is None:
        raise NotFound("This file has been deleted meanwhile.")
    return seen
