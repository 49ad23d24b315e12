"""The forms in which models write calls and thoughts, one entry each in `formats.table`."""
