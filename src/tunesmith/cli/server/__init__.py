"""The server that a command starts, finds or stops."""
