"""Pages about usage, keys, projects and the server."""
