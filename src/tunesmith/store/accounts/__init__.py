"""API keys, projects and usage."""
