"""The forms in which models write calls and thoughts."""
