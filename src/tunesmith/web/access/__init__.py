"""Who looks at a page, and what pages refuse."""
