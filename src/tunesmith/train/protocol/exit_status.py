"""How a trainer's process ends where it has not failed."""

STOPPED = 143  # it was asked to end, or another rank was lost; its progress is saved
NO_ROOM = 74  # it waited in vain for room on the disk, and has none for an event that says so
