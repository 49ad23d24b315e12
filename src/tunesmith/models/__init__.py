"""Base models: names, where weights come from, loading; and adapters on disk."""
