"""Training files and messages: lines in, values out. Pure functions; no database, no torch."""
