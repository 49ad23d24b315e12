"""A training file -> a report: faults with line and cure, statistics, duplicates, personal data."""
