"""Commands that work on data files."""
