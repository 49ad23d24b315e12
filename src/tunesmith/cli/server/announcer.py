"""Announces a server in its data directory.

Another server may have announced itself there before.
"""

import os
import threading

from tunesmith.cli.server.announcement import Announcement, announcement_file
from tunesmith.cli.server.find import running_server
from tunesmith.settings import Settings

RETRY_SECONDS = 2.0


class Announcer:
    """Holds `server.json` from `announce()` to `withdraw()`.

    While another server that answers holds it, that one keeps it: commands on the directory go on talking to it. Ours
    takes it over when the other has gone.
    """

    def __init__(self, settings: Settings, announcement: Announcement) -> None:
        self._settings = settings
        self._announcement = announcement
        self._file = announcement_file(settings)
        self._withdrawn = threading.Event()
        self._thread = threading.Thread(target=self._wait_for_the_other, name="announcer", daemon=True)

    def announce(self) -> None:
        """Announces the server now, or once the other one has gone."""
        if not self._announce():
            self._thread.start()

    def withdraw(self) -> None:
        """Takes our announcement back; another server's stays."""
        self._withdrawn.set()
        if self._thread.ident is not None:
            self._thread.join()
        if Announcement.read(self._file) == self._announcement:
            self._file.unlink(missing_ok=True)

    def _announce(self) -> bool:
        if running_server(self._settings, own_url=self._announcement.base_url) is not None:
            return False
        self._announcement.write(self._file)
        return True

    def _wait_for_the_other(self) -> None:
        """Asks the other server nothing while it lives: a request would keep an idle one from ending."""
        while not self._withdrawn.wait(RETRY_SECONDS):
            other = Announcement.read(self._file)
            if (other is None or not _is_process(other.pid)) and self._announce():
                return


def _is_process(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
