"""Checks a training file: faults, statistics, duplicates and personal data."""
