"""Has a child process look at a file for a page.

The limits are those of the upload's check.
"""

from collections.abc import Mapping

import structlog
from starlette.concurrency import run_in_threadpool

from tunesmith.api.background.file_checks import BYTES_A_SECOND, LEAST_MEMORY
from tunesmith.check.isolated.children import CheckBusy, CheckChildren, CheckDied, CheckFailed, CheckTimedOut
from tunesmith.check.isolated.look import Look
from tunesmith.errors import NotFound, ServerFault, ServiceUnavailable
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.settings import Settings
from tunesmith.system.memory import total_memory

log = structlog.get_logger(__name__)

WAIT_SECONDS = 20.0  # for a free child
ROWS, MASK = "tunesmith.web.looks.rows:rows", "tunesmith.web.looks.mask:mask"
FIX, ESTIMATE = "tunesmith.web.looks.fix:fix", "tunesmith.web.looks.estimate:estimate"

_children = CheckChildren()  # places of their own: a page takes none from an upload


async def look(settings: Settings, function: str, values: Mapping[str, JsonValue], size: int) -> JsonObject:
    """What one of the functions above shows of a file of `size` bytes.

    Raises NotFound for a file that is gone, InvalidRequest as the function does, and ServerFault with a sentence.
    """
    seconds = settings.check_seconds + size / BYTES_A_SECOND
    memory = settings.check_memory_mib << 20 or max(LEAST_MEMORY, total_memory() // 4)
    seen = await run_in_threadpool(_look, Look(function, dict(values), seconds, memory, size))
    if seen is None:
        raise NotFound("This file has been deleted meanwhile.")
    return seen


def _look(wanted: Look) -> JsonObject | None:
    try:
        return _children.look(wanted, wait=WAIT_SECONDS)
    except CheckBusy:
        raise ServiceUnavailable("The server is busy with other files. Try again in a moment.") from None
    except CheckTimedOut:
        raise ServerFault(
            f"This took longer than {wanted.seconds:.0f} s and was given up (setting check_seconds). A file this large "
            "is better looked at with the command line, such as `tunesmith check FILE`."
        ) from None
    except CheckFailed as failure:
        log.error("a look at a file failed", look=wanted.function, exception=failure.message)
        raise ServerFault("This could not be shown; the server's log has the details.") from None
    except CheckDied as death:
        raise ServerFault(
            f"This was given up: {death.message} (setting check_memory_mib). Split the file, and try again."
        ) from None
