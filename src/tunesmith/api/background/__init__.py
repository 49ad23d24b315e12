"""What the API process does beside answering: checks of uploaded files, sweeps."""
