"""Stands in for a trainer among ranks: rank 0 ends with 143 once it is told that another is gone, the other waits."""

import os
import sys
import time
from pathlib import Path

folder = Path(sys.argv[1]).parent
rank = int(os.environ["RANK"])
if rank == 0:
    Path(os.environ["RANKS_FILE"]).touch()
(folder / f"started-{rank}").touch()
until = time.monotonic() + 60.0
while rank or not (folder / "gone").exists():
    time.sleep(0.01)
    if time.monotonic() > until:
        sys.exit(1)
sys.exit(143)
