"""What is looked for: duplicates, leaks, personal data, languages, damaged texts."""
