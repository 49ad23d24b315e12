"""What worker, launcher and trainer tell each other. Imports no torch."""
