"""Keys, projects and usage."""
