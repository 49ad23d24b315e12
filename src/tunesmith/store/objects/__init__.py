"""Files, models, completions and what belongs to them: rows, and bytes on disk."""
