"""Compiled code for what torch's operations are too many or too slow for. Imported only where a base is loaded."""
