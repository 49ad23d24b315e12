"""Regular languages: what a `pattern` does not match, and what two of them share."""
