"""Numbers and texts of pages, made ready for their templates."""
