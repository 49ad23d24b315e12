"""Base models: names and aliases, where their weights come from, loading them, and adapters on disk."""
